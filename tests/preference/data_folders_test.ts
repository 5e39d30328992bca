/** Which files and rows of a folder are read, held against what `datasets` loads. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { InputError } from "../../src/errors.ts";
import type { RowSource } from "../../src/engine/protocol.ts";
import { resolveDataset } from "../../src/jobs/files.ts";
import { readDataFiles } from "../../src/preference/data_files.ts";
import type { DataChoice } from "../../src/preference/files/folder.ts";
import VALUES from "../reference/values/data_files.json" with { type: "json" };

type Files = Readonly<Record<string, string>>;

/** Ids of the rows that a data set means. */
async function idsOf(root: string, path: string, choice: DataChoice): Promise<number[]> {
  const dataset = await resolveDataset({ root }, { path, ...choice as object }) as RowSource;
  assert.ok(!("comparisons" in dataset));
  const rows = await Array.fromAsync(readDataFiles("paths" in dataset ? dataset.paths : [dataset.path]));
  return rows.map(({ value }) => Number((value as { id: unknown }).id));
}

async function withFolder(files: Files, test: (root: string) => Promise<void>): Promise<void> {
  const root = await Deno.realPath(await Deno.makeTempDir());
  try {
    for (const [name, text] of Object.entries(files)) {
      await Deno.mkdir(dirname(join(root, "set", name)), { recursive: true });
      await Deno.writeTextFile(join(root, "set", name), text);
    }
    await test(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

for (const [folder, files] of Object.entries(VALUES.folders)) {
  const cases = VALUES.cases.filter((value) => value.folder === folder);
  Deno.test(`resolveDataset() finds the rows that datasets finds in ${folder}, or refuses`, () =>
    withFolder(files, async (root) => {
      assert.ok(cases.length > 0);
      for (const { request, ids } of cases) {
        const found = idsOf(root, "set", request as DataChoice);
        if (ids !== null && ids.length > 0) assert.deepEqual(await found, ids, JSON.stringify(request));
        else await assert.rejects(found, InputError, JSON.stringify(request));
      }
    }));
}

/** The refusal's field and message. */
async function refusal(files: Files, choice: object, path = "set"): Promise<[string, string]> {
  let refused: [string, string] = ["", ""];
  await withFolder(files, async (root) => {
    await assert.rejects(idsOf(root, path, choice), (error) => {
      assert.ok(error instanceof InputError, String(error));
      refused = [error.field, `${error.message} (${error.problem.accepted})`];
      return true;
    });
  });
  return refused;
}

Deno.test("resolveDataset() names the splits that a folder has where another is asked for or none is said", async () => {
  const row = '{"id":1}\n';
  const prefs = { "data/train_prefs-00000-of-00001.jsonl": row, "data/test_prefs-00000-of-00001.jsonl": row };
  assert.deepEqual(await refusal(prefs, {}), [
    "path",
    'path: There is no split "train": the splits are test_prefs, train_prefs. (split: test_prefs | train_prefs)',
  ]);
  const [field, message] = await refusal({ "train.csv": "id\n1\n", "dev.csv": "id\n2\n" }, { split: "test" });
  assert.equal(field, "split");
  assert.match(message, /no split "test": the splits are dev, train\./);
});

Deno.test("resolveDataset() names the configurations where none is said, and the folders that could be meant", async () => {
  const { undecided, configs } = VALUES.folders;
  assert.deepEqual(await refusal(undecided, {}), [
    "name",
    "name is missing: the data set has the configurations en, de. (en | de)",
  ]);
  assert.match((await refusal(configs, { name: "none" }))[1], /has the configurations plain, both, inside/);
  const twice = { "en/train.jsonl": "{}", "de/train.jsonl": "{}" };
  assert.match((await refusal(twice, {}))[1], /name: one of de, en/);
  assert.match((await refusal(twice, { name: "fr" }))[1], /no configurations and no such folder/);
});

Deno.test("resolveDataset() takes a folder's name for a configuration", () =>
  withFolder({ "en/train.jsonl": '{"id":1}', "de/train.jsonl": '{"id":2}' }, async (root) => {
    assert.deepEqual(await idsOf(root, "set", { name: "de" }), [2]);
  }));

Deno.test("resolveDataset() refuses patterns that match nothing or too much, and fields that do not go together", async () => {
  const files = { "a.jsonl": "{}" };
  assert.match(
    (await refusal(files, { data_files: "b*" }))[1],
    /data_files "b\*" matches no file of rows: the folder has a\.jsonl/,
  );
  assert.match((await refusal(files, { data_files: "../a.jsonl" }))[1], /matches no file/);
  assert.match((await refusal(files, { data_files: "*a*a*a*a*b" }))[1], /too many stars/);
  assert.match((await refusal(files, { data_files: "{a,b}{a,b}{a,b}{a,b}" }))[1], /too many braces/);
  assert.match((await refusal(files, { data_files: "?".repeat(5000) }))[1], /too many characters/);
  assert.equal((await refusal(files, { data_files: "a.jsonl", name: "x" }))[0], "name");
  assert.equal((await refusal(files, { data_files: "a.jsonl" }, "set/a.jsonl"))[0], "data_files");
  assert.equal((await refusal(files, { split: "dev" }, "set/a.jsonl"))[0], "split");
});

Deno.test("resolveDataset() takes brackets in a pattern for themselves, as a shell's would take for ever", async () => {
  const name = `${"a".repeat(40)}.jsonl`;
  for (const data_files of ["(a+)+b.jsonl", `${"(a|a)".repeat(40)}b.jsonl`, `${"?(a)".repeat(40)}.jsonl`]) {
    assert.match((await refusal({ [name]: "{}" }, { data_files }))[1], /matches no file/);
  }
  await withFolder({ "a+(1).jsonl": '{"id":1}', "a+(2).jsonl": '{"id":2}' }, async (root) => {
    assert.deepEqual(await idsOf(root, "set", { data_files: "a+(*).jsonl" }), [1, 2]);
  });
});

Deno.test("resolveDataset() refuses files that say which rows a folder has where they are too long or no texts", async () => {
  const long = " ".repeat(2 ** 24);
  const rows = { "a.jsonl": "{}" };
  assert.match((await refusal({ "README.md": `${long}x`, ...rows }, {}))[1], /README\.md has 16777217 bytes/);
  assert.match((await refusal({ "state.json": `${long}{}` }, {}))[1], /state\.json has 16777218 bytes/);
  assert.match(
    (await refusal({ "README.md": `---\nconfigs: ${long.slice(0, 2 ** 21)}\n---\n`, ...rows }, {}))[1],
    /README\.md has front matter of \d+ characters/,
  );
  const noText = '{"toString":1}';
  const state = `{"_data_files":[{"filename":${noText}}]}`;
  assert.match((await refusal({ "state.json": state, ...rows }, {}))[1], /The folder has no , of which/);
  assert.match((await refusal({ "dataset_dict.json": `{"splits":[${noText}]}` }, {}))[1], /no split "train"/);
});

Deno.test("resolveDataset() refuses a README.md that cannot be read, or says to read files as it does not", async () => {
  const card = (front: string) => ({
    "README.md": `---\n${front}\n---\n`,
    "a.jsonl": "{}",
    "a-00000-of-00002.csv": "",
  });
  const cases: [front: string, message: RegExp][] = [
    ["configs: [", /README\.md has front matter that is no YAML/],
    ["configs: 3", /README\.md: configs must be a list/],
    ["configs:\n- data_files: a", /configs\[0\]\.config_name/],
    ["configs:\n- config_name: a\n  data_files: [{split: train}]", /configs\[0\]\.data_files\[0\] must be/],
    [
      "configs:\n- config_name: a\n  data_files: b.jsonl",
      /README\.md: data_files "b\.jsonl" matches no file/,
    ],
    ["configs:\n- config_name: a\n  data_files: a-*.csv", /1 files of a split in 2 parts/],
    ["configs:\n- config_name: a\n  data_files: a.jsonl\n  field: data", /read by field, which is not known/],
  ];
  for (const [front, message] of cases) assert.match((await refusal(card(front), {}))[1], message, front);
});

Deno.test("resolveDataset() takes slices of a file, whose rows keep their numbers", () =>
  withFolder({ "a.csv": "id\n1\n2\n3\n4\n" }, async (root) => {
    const dataset = await resolveDataset({ root }, { path: "set/a.csv", split: "train[25%:100%]" });
    assert.ok("paths" in dataset);
    const rows = await Array.fromAsync(readDataFiles(dataset.paths));
    assert.deepEqual(rows.map(({ row, value }) => [row, value]), [[2, { id: "2" }], [3, { id: "3" }], [4, {
      id: "4",
    }]]);
    assert.deepEqual(await idsOf(root, "set/a.csv", { split: "train" }), [1, 2, 3, 4]);
  }));

Deno.test("readDataFiles() tells of the rows that it passes over", () =>
  withFolder({ "a.jsonl": "1\n2\n3\n" }, async (root) => {
    let read = 0;
    const sliced = { files: [join(root, "set", "a.jsonl")], slice: { from: -1 } };
    const rows = await Array.fromAsync(readDataFiles([sliced], { onRead: () => read++ }));
    assert.deepEqual([rows.map(({ row }) => row), read], [[3], 6]);
  }));

Deno.test("readDataFiles() refuses a slice without rows", async () => {
  const [, message] = await refusal({ "a.jsonl": '{"id":1}' }, { split: "train[5:]" });
  assert.match(message, /no rows in the slice \[5:\] of a\.jsonl/);
});

Deno.test("resolveDataset() reads folders of save_to_disk, and refuses those with indices or without a file", async () => {
  const fixtures = await Deno.realPath(new URL("../fixtures", import.meta.url));
  const ids = [0, 1, 2, 3, 4].map((id) => Number(2n ** 60n) + id);
  assert.deepEqual(await idsOf(fixtures, "data/saved", {}), ids);
  assert.deepEqual(await idsOf(fixtures, "data/dict", {}), ids.slice(0, 3));
  assert.deepEqual(await idsOf(fixtures, "data/dict", { split: "test" }), ids.slice(3));
  await assert.rejects(idsOf(fixtures, "data/dict", { split: "dev" }), {
    message: /the splits are train, test/,
  });
  const state = (more: object) => ({
    "state.json": JSON.stringify({ _data_files: [{ filename: "a.arrow" }], ...more }),
    "a.arrow": "",
  });
  assert.match(
    (await refusal(state({ _indices_data_files: [{ filename: "i.arrow" }] }), {}))[1],
    /flatten_indices/,
  );
  assert.match(
    (await refusal({ ...state({ _data_files: [{ filename: "b.arrow" }] }) }, {}))[1],
    /has no b\.arrow/,
  );
  assert.match(
    (await refusal({ "state.json": "[", "a.arrow": "" }, {}))[1],
    /state\.json must hold an object/,
  );
  assert.match(
    (await refusal({ "dataset_dict.json": '{"splits":["train"]}' }, {}))[1],
    /train\/state\.json is not there/,
  );
});
