import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InputError } from "../../src/errors.ts";
import { readComparisons } from "../../src/preference/comparisons.ts";
import type { Comparison } from "../../src/preference/rows.ts";
import { withFiles } from "./_tokenizers.ts";

const fixtures = fileURLToPath(new URL("../fixtures/parquet/", import.meta.url));
const prompts = ["one", "zwei ü", "三", "", "five 🙂"];

function read(name: string): Promise<Comparison[]> {
  return Array.fromAsync(readComparisons([join(fixtures, name)], "preference"));
}

for (const codec of ["none", "snappy", "zstd", "gzip", "brotli", "lz4"]) {
  Deno.test(`readComparisons() reads every row group of a file compressed with ${codec}`, async () => {
    assert.deepEqual(
      await read(`${codec}.parquet`),
      prompts.map((prompt, index) => ({
        row: index + 1,
        prompt,
        responses: [`good ${index}`, `bad ${index}`],
      })),
    );
  });
}

Deno.test("readComparisons() refuses a compression it does not know by its name", async () => {
  await withLz4As(0x06, async (path) => {
    await assert.rejects(Array.fromAsync(readComparisons([path], "preference")), {
      name: "InputError",
      message: /^rows\.parquet is compressed with LZO, .*LZ4_RAW/,
    });
  });
});

Deno.test("readComparisons() reads pages of the old codec LZ4 that have no frames of Hadoop's", async () => {
  await withLz4As(0x0a, async (path) => {
    assert.deepEqual(
      await Array.fromAsync(readComparisons([path], "preference")),
      await read("lz4.parquet"),
    );
  });
});

/** The LZ4 fixture with another codec in its footer, a zigzag number: a field of 32 bits before one of 64. */
async function withLz4As(codec: number, test: (path: string) => Promise<void>): Promise<void> {
  const bytes = await Deno.readFile(join(fixtures, "lz4.parquet"));
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === 0x15 && bytes[at + 1] === 0x0e && bytes[at + 2] === 0x16) bytes[at + 1] = codec;
  }
  await withFiles({}, async (dir) => {
    await Deno.writeFile(join(dir, "rows.parquet"), bytes);
    await test(join(dir, "rows.parquet"));
  });
}

Deno.test("readComparisons() reads lists of structs from shards as it reads messages from JSONL", async () => {
  const shards = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
  const rows = await Array.fromAsync(
    readComparisons(shards.map((name) => join(fixtures, "hub/data", name)), "preference"),
  );
  // A struct's null is a key that is not there: templates ask whether `name` is defined.
  assert.deepEqual(
    rows,
    prompts.map((content, index) => ({
      row: index + 1,
      prompt: [
        { role: "system", content: "Be brief." },
        { role: "user", content, ...(index === 1 ? { name: "ann" } : {}) },
      ],
      responses: [
        [{ role: "assistant", content: `good ${index}` }],
        [{ role: "assistant", content: `bad ${index}` }],
      ],
    })),
  );
});

Deno.test("readComparisons() numbers rows over the files and says which file holds a broken one, of many or alone", async () => {
  await withFiles({ "b.jsonl": '{"prompt":"p","chosen":1,"rejected":"r"}\n' }, async (dir) => {
    const paths = [join(fixtures, "none.parquet"), join(dir, "b.jsonl")];
    await assert.rejects(Array.fromAsync(readComparisons(paths, "preference")), {
      name: "InputError",
      message: /^b\.jsonl: row 6: chosen must be a string/,
    });
    await assert.rejects(Array.fromAsync(readComparisons(paths.slice(1), "preference")), {
      message: /^b\.jsonl: row 1: chosen must be a string/,
    });
  });
});

Deno.test("readComparisons() hands on the rows of the groups before a broken one, and names it", async () => {
  const seen: number[] = [];
  await assert.rejects(async () => {
    for await (const { row } of readComparisons([join(fixtures, "broken_row.parquet")], "preference")) {
      seen.push(row);
    }
  }, {
    name: "InputError",
    message: /^broken_row\.parquet: row 3 must be .*its keys are prompt, rejected\.$/,
  });
  assert.deepEqual(seen, [1, 2]);
});

Deno.test("readComparisons() refuses columns that are no rows, and values that are no text", async () => {
  await assert.rejects(read("other_columns.parquet"), {
    name: "InputError",
    message: /^other_columns\.parquet: row 1 must be .*its keys are question\.$/,
  });
  await assert.rejects(Array.fromAsync(readComparisons([join(fixtures, "numbers.parquet")], "sft")), {
    name: "InputError",
    message: "numbers.parquet: row 1: text must be a string, not number 1.",
  });
});

Deno.test("readComparisons() refuses malformed and missing files by name", async () => {
  const whole = await Deno.readFile(join(fixtures, "snappy.parquet"));
  const cut = whole.slice(0, -40);
  const long = whole.slice();
  new DataView(long.buffer).setUint32(long.length - 8, 0x7fffffff, true);
  const page = whole.slice();
  page.fill(0xff, 4, 60);
  const footer = whole.slice();
  footer.fill(0xff, footer.length - 200, footer.length - 8);
  await withFiles({}, async (dir) => {
    const path = join(dir, "rows.parquet");
    const cases = {
      cut,
      long,
      page,
      footer,
      empty: new Uint8Array(),
      text: new TextEncoder().encode("{}\n".repeat(9)),
    };
    for (const [what, bytes] of Object.entries(cases)) {
      await Deno.writeFile(path, bytes);
      await assert.rejects(Array.fromAsync(readComparisons([path], "preference")), (error) => {
        assert(error instanceof InputError, `${what}: ${error}`);
        assert.match(error.message, /^rows\.parquet is not a readable Parquet file: /, what);
        return true;
      });
    }
    await assert.rejects(Array.fromAsync(readComparisons([join(dir, "gone.parquet")], "sft")), {
      name: "InputError",
      message: "gone.parquet is not there.",
    });
  });
});
