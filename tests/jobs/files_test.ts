import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { checkFiles } from "../../src/jobs/check_files.ts";
import { resolveDataset } from "../../src/jobs/files.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

async function withRoot(test: (root: string) => Promise<void>): Promise<void> {
  const root = await Deno.realPath(await Deno.makeTempDir());
  try {
    await Deno.mkdir(join(root, "set/data"), { recursive: true });
    for (
      const name of [
        "rows.txt",
        "set/README.md",
        "set/data/train-00000-of-00001.parquet",
        "set/data/test.jsonl",
      ]
    ) {
      await Deno.writeTextFile(join(root, name), "");
    }
    await test(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const refused = (field: string, message: RegExp) => (error: unknown) => {
  assert(error instanceof InputError, String(error));
  assert.equal(error.field, field);
  assert.match(error.message, message);
  return true;
};

Deno.test("resolveDataset() takes a file whatever its name, and a folder's split", () =>
  withRoot(async (root) => {
    assert.deepEqual(await resolveDataset({ root }, { path: "rows.txt" }), {
      path: join(root, "rows.txt"),
    });
    const train = join(root, "set/data/train-00000-of-00001.parquet");
    assert.deepEqual(await resolveDataset({ root }, { path: "set" }), { paths: [train] });
    assert.deepEqual(await resolveDataset({ root }, { path: "set/data", split: "test" }), {
      paths: [join(root, "set/data/test.jsonl")],
    });
    const comparisons = [{ row: 1, prompt: "a", responses: ["b", "c"] }];
    assert.deepEqual(await resolveDataset({ root }, { comparisons }), { comparisons });
  }));

Deno.test("resolveDataset() refuses a split that is not there or stands beside a file, and links that leave", () =>
  withRoot(async (root) => {
    await assert.rejects(
      resolveDataset({ root }, { path: "set", split: "dev" }),
      refused("split", /no split "dev"/),
    );
    await assert.rejects(
      resolveDataset({ root }, { path: "rows.txt", split: "test" }),
      refused("split", /is a file/),
    );
    await assert.rejects(
      resolveDataset({ root }, { path: "gone" }),
      refused("path", /no file or directory/),
    );
    await Deno.symlink("/etc/hostname", join(root, "set/data/dev.jsonl"));
    await assert.rejects(
      resolveDataset({ root }, { path: "set", split: "dev" }),
      refused("path", /symbolic link/),
    );
  }));

Deno.test("checkFiles() refuses a model at once that its configuration or its weights' headers rule out", async () => {
  const root = await Deno.realPath(await Deno.makeTempDir());
  const shard = "model-00002-of-00002.safetensors";
  const index = "model.safetensors.index.json";
  const mistakes: [change: (model: string) => Promise<unknown>, field: string, message: RegExp][] = [
    [(model) => Deno.remove(join(model, "config.json")), "config.json", /is not in/],
    [(model) => Deno.remove(join(model, shard)), `${index}: weight_map`, /the shard .* is missing/],
    [(model) => Deno.truncate(join(model, shard), 3000), shard, /is truncated|announces a header/],
    [(model) => Deno.remove(join(model, index)), "model.safetensors", /neither model\.safetensors nor/],
    [
      async (model) => {
        const path = join(model, "config.json");
        const config = JSON.parse(await Deno.readTextFile(path));
        await Deno.writeTextFile(path, JSON.stringify({ ...config, intermediate_size: 47 }));
      },
      "model.layers.0.mlp.gate_proj.weight",
      /the configuration asks for \[47,32\]/,
    ],
  ];
  const rows = { comparisons: [] };
  const check = (model: string) => checkFiles({ root }, { model, dataset: rows, eval_dataset: null });
  try {
    for (const [i, [change, field, message]] of mistakes.entries()) {
      const name = `model-${i}`;
      await writeTinyModel(join(root, name), { sharded: true });
      await check(name);
      await change(join(root, name));
      await assert.rejects(check(name), refused(field, message));
    }
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
