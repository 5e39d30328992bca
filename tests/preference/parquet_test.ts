import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InputError } from "../../src/errors.ts";
import { readDataFiles } from "../../src/preference/data_files.ts";
import { RowReader } from "../../src/preference/row_reader.ts";
import type { Comparison } from "../../src/preference/rows.ts";
import { withFiles } from "./_tokenizers.ts";

const fixtures = fileURLToPath(new URL("../fixtures/parquet/", import.meta.url));
const prompts = ["one", "zwei ü", "三", "", "five 🙂"];

function read(name: string): Promise<Comparison[]> {
  return readAll([join(fixtures, name)]);
}

async function readAll(paths: readonly string[]): Promise<Comparison[]> {
  const reader = new RowReader({ kind: "preference" });
  return (await Array.fromAsync(readDataFiles(paths), (row) => reader.read(row))).flat();
}

for (const codec of ["none", "snappy", "zstd", "gzip", "brotli", "lz4"]) {
  Deno.test(`readDataFiles() reads every row group of a file compressed with ${codec}`, async () => {
    assert.deepEqual(
      await read(`${codec}.parquet`),
      prompts.flatMap((prompt, index) =>
        prompt === "" ? [] : [{ row: index + 1, prompt, responses: [`good ${index}`, `bad ${index}`] }]
      ),
    );
  });
}

Deno.test("readDataFiles() refuses a compression it does not know by its name", async () => {
  await withLz4As(0x06, async (path) => {
    await assert.rejects(Array.fromAsync(readDataFiles([path])), {
      name: "InputError",
      message: /^rows\.parquet is compressed with LZO, .*LZ4_RAW/,
    });
  });
});

Deno.test("readDataFiles() reads pages of the old codec LZ4 that have no frames of Hadoop's", async () => {
  await withLz4As(0x0a, async (path) => {
    assert.deepEqual(
      await await readAll([path]),
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

Deno.test("readDataFiles() reads lists of structs from shards as it reads messages from JSONL", async () => {
  const shards = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
  const rows = await readAll(shards.map((name) => join(fixtures, "hub/data", name)));
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

Deno.test("readDataFiles() numbers rows over the files and says which file holds each", async () => {
  await withFiles({ "b.jsonl": '{"prompt":"p","chosen":1,"rejected":"r"}\n' }, async (dir) => {
    const paths = [join(fixtures, "none.parquet"), join(dir, "b.jsonl")];
    const reader = new RowReader({ kind: "preference" });
    for await (const row of readDataFiles(paths)) reader.read(row);
    const reasons = reader.left_out.summary().first;
    assert.deepEqual(reasons.map(({ row }) => row), [4, 6]);
    assert.match(reasons[1]!.reason, /^chosen must be a string/);
    assert.match(
      String(reader.left_out.firstFault),
      /none\.parquet: row 4: prompt is empty, and other columns hold text: notes\./,
    );
  });
});

Deno.test("readDataFiles() hands on a row in the midst that is none, and those after it", async () => {
  const reader = new RowReader({ kind: "preference" });
  const paths = [join(fixtures, "broken_row.parquet")];
  const read = await Array.fromAsync(readDataFiles(paths), (row) => [row.row, reader.read(row).length]);
  assert.deepEqual(read, [[1, 1], [2, 1], [3, 0]]);
  assert.match(
    String(reader.left_out.firstFault),
    /broken_row\.parquet: row 3: chosen must be a string or a list of messages, not null\.$/,
  );
});

Deno.test("RowReader says where a file's values are no text", async () => {
  const reader = new RowReader({ kind: "sft" });
  for await (const row of readDataFiles([join(fixtures, "numbers.parquet")])) reader.read(row);
  const message = "numbers.parquet: row 1: text must be a string, not number 1.";
  assert.equal(reader.left_out.firstFault?.message, message);
});

for (const version of ["1", "2"]) {
  Deno.test(`readDataFiles() refuses a page of version ${version} whose CRC is another, in columns that are read`, async () => {
    const bytes = await Deno.readFile(join(fixtures, `crc_${version}.parquet`));
    assert.deepEqual(await read(`crc_${version}.parquet`), await read("snappy.parquet"));
    const text = new TextDecoder("latin1").decode(bytes);
    await withFiles({}, async (dir) => {
      const path = join(dir, "rows.parquet");
      /** @param which of the places where the word stands, from 0 */
      const damaged = async (word: string, which: number) => {
        const at = [...text.matchAll(new RegExp(word, "g"))][which]!.index;
        await Deno.writeFile(path, bytes.with(at, bytes[at]! ^ 0x20));
        return readDataFiles([path], { columns: (names) => names.filter((name) => name !== "notes") });
      };
      // a letter in a page of values behind its header's least, in a dictionary, in the second row group
      for (
        const [column, word, which] of [["chosen", "good 0", 1], ["prompt", "zwei", 0], [
          "rejected",
          "bad 3",
          1,
        ]] as const
      ) {
        const rows = await damaged(word, which);
        await assert.rejects(Array.fromAsync(rows), (error) => {
          assert.ok(error instanceof InputError, String(error));
          assert.match(
            error.message,
            /^rows\.parquet is not a readable Parquet file: page \d of the column /,
          );
          assert.ok(error.message.includes(`the column ${column} at byte `), error.message);
          return true;
        });
      }
      const unread = await damaged("unused", 0);
      assert.equal((await Array.fromAsync(unread)).length, 5);
    });
  });
}

Deno.test("readDataFiles() refuses malformed and missing files by name", async () => {
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
      await assert.rejects(Array.fromAsync(readDataFiles([path])), (error) => {
        assert(error instanceof InputError, `${what}: ${error}`);
        assert.match(error.message, /^rows\.parquet is not a readable Parquet file: /, what);
        return true;
      });
    }
    await assert.rejects(Array.fromAsync(readDataFiles([join(dir, "gone.parquet")])), {
      name: "InputError",
      message: "gone.parquet is not there.",
    });
  });
});
