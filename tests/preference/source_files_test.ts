/** Rows as files of every format have them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, gzipSync, zstdCompressSync } from "node:zlib";
import { InputError } from "../../src/errors.ts";
import { readDataFiles, type ReadOptions } from "../../src/preference/data_files.ts";
import { plainRow } from "../../src/preference/files/plain.ts";
import { Random } from "../../src/training/random.ts";
import { withFiles } from "./_tokenizers.ts";

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));
const text = (content: string) => new TextEncoder().encode(content);
const joined = (...parts: Uint8Array[]) => new Uint8Array(parts.flatMap((part) => [...part]));

/** A file's rows: their values, or what is wrong with them, by their numbers. */
async function read(
  name: string,
  content: string | Uint8Array,
  options?: ReadOptions,
): Promise<[number, unknown][]> {
  return await withFiles({}, async (dir) => {
    const path = join(dir, name);
    await Deno.writeFile(path, typeof content === "string" ? text(content) : content);
    const rows = await Array.fromAsync(readDataFiles([path], options));
    assert.ok(rows.every(({ file }) => file === name));
    return rows.map(({ row, value, problem }) => [row, problem ?? value]);
  });
}

async function refused(name: string, content: string | Uint8Array, message: RegExp): Promise<void> {
  await assert.rejects(read(name, content), (error) => {
    assert.ok(error instanceof InputError, `${error}`);
    assert.match(error.message, message);
    return true;
  });
}

const numbered = (...values: unknown[]) => values.map((value, i) => [i + 1, value]);
const AB = [{ a: "x" }, { a: '["}ü\\"' }];

Deno.test("readDataFiles() reads JSON arrays however they are laid out", async () => {
  for (
    const layout of [
      JSON.stringify(AB),
      JSON.stringify(AB, null, 2),
      `\uFEFF \r\n${JSON.stringify(AB, null, "\t")}\n\n`,
    ]
  ) {
    for (const name of ["rows.json", "rows.jsonl", "rows.json.gz"]) {
      assert.deepEqual(await read(name, layout), numbered(...AB));
    }
  }
  assert.deepEqual(await read("rows.json", "[]"), []);
  assert.deepEqual(await read("rows.json", " \n"), []);
  assert.deepEqual(
    await read("rows.json", '[1, null, "a,]", [2], true]'),
    numbered(1, null, "a,]", [2], true),
  );
});

Deno.test("readDataFiles() reads lines and indented objects from .json as well", async () => {
  assert.deepEqual(
    await read("rows.json", AB.map((row) => JSON.stringify(row)).join("\r\n")),
    numbered(...AB),
  );
  assert.deepEqual(
    await read("rows.json", AB.map((row) => JSON.stringify(row, null, 1)).join("\n")),
    numbered(...AB),
  );
  assert.deepEqual(
    await read("rows.jsonl", AB.map((row) => JSON.stringify(row, null, 1)).join("\n")),
    numbered(...AB),
  );
});

Deno.test("readDataFiles() tells a list in the first of many lines from an array of rows", async () => {
  assert.deepEqual(await read("rows.jsonl", '[1]\n{"a":1}\n'), numbered([1], { a: 1 }));
});

Deno.test("readDataFiles() reads the NaN and Infinity of Python, and not those in strings", async () => {
  const row = '{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \\\\", "d": "\\"NaN"}';
  const value = { a: NaN, b: [-Infinity, Infinity], c: "NaN \\", d: '"NaN' };
  assert.deepEqual(await read("rows.jsonl", row), numbered(value));
  assert.deepEqual(await read("rows.json", `[${row}]`), numbered(value));
  assert.match(String((await read("rows.jsonl", '{"a": NaNa}'))[0]?.[1]), /^is not JSON/);
});

Deno.test("readDataFiles() tells of a row that alone cannot be read, and reads on", async () => {
  const problems = async (name: string, content: string | Uint8Array) =>
    (await read(name, content)).map((
      [row, value],
    ) => [row, typeof value === "string" ? value.replace(/:.*/s, "") : value]);
  assert.deepEqual(await problems("rows.jsonl", '{"a":1}\n\n{"a":\n{"a":3}'), [[1, { a: 1 }], [
    3,
    "is not JSON",
  ], [4, { a: 3 }]]);
  assert.deepEqual(await problems("rows.json", '{"a":\n{"a":2}'), numbered("is not JSON", { a: 2 }));
  assert.deepEqual(
    await problems("rows.json", '[{"a":1},{"a":tru},,{"a":3}]'),
    numbered({ a: 1 }, "is not JSON", "is not JSON", { a: 3 }),
  );
  const bytes = text('{"a":"?"}\n{"a":1}\n');
  bytes[bytes.indexOf(0x3f)] = 0xff;
  assert.deepEqual(await problems("rows.jsonl", bytes), numbered("is not UTF-8", { a: 1 }));
  const deep = `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
  for (const name of ["rows.jsonl", "rows.json"]) {
    assert.deepEqual(await problems(name, `${deep}\n`), numbered("is nested deeper than 100 levels"));
  }
  const long = `{"a":"${"x".repeat(2 ** 25)}"}`;
  assert.deepEqual(
    await problems("rows.jsonl", `${long}\n{"a":1}`),
    numbered("is longer than 32 MiB", { a: 1 }),
  );
});

Deno.test("readDataFiles() refuses JSON that is one object around its rows, or not whole", async () => {
  const message = /^rows\.json is one object with its rows under "data": save that list/;
  await refused("rows.json", JSON.stringify({ version: 1, data: AB }), message);
  await refused("rows.json", JSON.stringify({ version: 1, data: AB }, null, 2), message);
  assert.deepEqual(
    await read("rows.json", '{"messages":[{"role":"user"}]}'),
    numbered({ messages: [{ role: "user" }] }),
  );
  await refused("rows.json", '[{"a":1},\n{"a":2}', /^rows\.json ends at line 2 in the middle of row 2\.$/);
  await refused("rows.json", '[{"a":1},\n{"a":"2}]', /ends at line 2 in the middle of row 2/);
  await refused("rows.json", '[{"a":1}]\n]', /^rows\.json goes on after the end of its rows at line 2\.$/);
});

const LINES = AB.map((row) => JSON.stringify(row) + "\n").join("");

Deno.test("readDataFiles() reads every member of gzip and every frame of zstd, whatever the file's name", async () => {
  const parts = [LINES, LINES.repeat(2000)].map(text);
  for (const compress of [gzipSync, zstdCompressSync]) {
    const bytes = joined(...parts.map((part) => new Uint8Array(compress(part))));
    for (const name of ["rows.jsonl.gz", "rows.jsonl.zst", "rows.jsonl"]) {
      const rows = await read(name, bytes);
      assert.equal(rows.length, 4002);
      assert.deepEqual(rows.slice(-2).map(([, value]) => value), AB);
    }
  }
  assert.deepEqual(await read("rows.csv.gz", new Uint8Array(gzipSync("a\nx\n"))), numbered({ a: "x" }));
  assert.deepEqual(await read("rows.jsonl.gz", LINES), numbered(...AB)); // already decompressed
  const skippable = Uint8Array.of(0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7);
  assert.deepEqual(
    await read("rows.json.zst", joined(skippable, new Uint8Array(zstdCompressSync(LINES)))),
    numbered(...AB),
  );
});

Deno.test("readDataFiles() refuses compressed files that are damaged or cut, and says how far they went", async () => {
  const lines = Array.from({ length: 9000 }, (_, i) => `{"a":"${(i * 7919 % 10007) ** 3}"}\n`).join("");
  // As the zstd command does; without a checksum damage is not always seen.
  const zstd = (lines: string) => zstdCompressSync(lines, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
  for (const [kind, compress] of [["gzip", gzipSync], ["zstd", zstd]] as const) {
    const whole = new Uint8Array(compress(lines));
    const message = new RegExp(
      `^rows\\.jsonl is not a readable ${kind} file: .*, after \\d+ bytes of text\\.$`,
    );
    for (const length of [whole.length - 1, whole.length >> 1, 5]) {
      await refused("rows.jsonl", whole.slice(0, length), message);
    }
    await refused("rows.jsonl", joined(whole, text("garbage")), message);
    const damaged = whole.slice();
    damaged.fill(0xff, whole.length >> 1, (whole.length >> 1) + 40);
    await refused("rows.jsonl", damaged, message);
  }
  await refused("rows.csv", Uint8Array.of(0xff, 0xfe, 0x61, 0), /^rows\.csv is UTF-16, but must be UTF-8\.$/);
});

Deno.test("readDataFiles() reads CSV and TSV as RFC 4180 and pandas have them", async () => {
  const csv = '\uFEFFprompt,chosen\r\n"a\nb","say ""hi"""\r\nc,\n"",x "y" z\n\nNaN,1.50';
  const rows = numbered(
    { prompt: "a\nb", chosen: 'say "hi"' },
    { prompt: "c", chosen: null },
    { prompt: "", chosen: 'x "y" z' },
    { prompt: "NaN", chosen: "1.50" },
  );
  assert.deepEqual(await read("rows.csv", csv), rows);
  assert.deepEqual(await read("rows.tsv.gz", csv.replaceAll(",", "\t")), rows);
  assert.deepEqual(
    await read("rows.csv", "a,b\r1,2\r3,4\r"),
    numbered({ a: "1", b: "2" }, { a: "3", b: "4" }),
  );
  assert.deepEqual(await read("rows.csv", "a,b\n"), []);
  assert.deepEqual(await read("rows.csv", ""), []);
});

Deno.test("readDataFiles() tells of CSV rows of another length or not UTF-8, and refuses files it cannot cut into rows", async () => {
  const bytes = text("a,b\n1\n1,2,3\n?,2\n5,6\n");
  bytes[bytes.indexOf(0x3f)] = 0xff;
  assert.deepEqual(await read("rows.csv", bytes), [
    [1, "has 1 fields, and the header has 2"],
    [2, "has 3 fields, and the header has 2"],
    [3, "is not UTF-8"],
    [4, { a: "5", b: "6" }],
  ]);
  assert.deepEqual(await read("rows.csv", "a\n\ufffd\n"), numbered({ a: "\ufffd" }));
  await refused("rows.csv", "a,b,a\n1,2,3\n", /^rows\.csv has two columns "a"\.$/);
  await refused("rows.csv", `${",".repeat(10_000)}\n`, /^rows\.csv has a header of 10001 columns\.$/);
  await refused(
    "rows.csv",
    'a,b\n1,2\n"3,4\n5,6\n',
    /^rows\.csv has a quote after line 2 that is not closed\.$/,
  );
});

/** What make_data_files.py wrote into types.parquet. */
const TYPES = [
  {
    prompt: "a",
    chosen: "x",
    rejected: "z",
    turns: [{ role: "user", content: "a" }],
    id: 2 ** 40,
    score: 0.5,
    day: "2026-01-02T00:00:00.000Z",
    time: "2026-01-02T03:04:05.000Z",
    ok: true,
  },
  {
    prompt: "b",
    chosen: "y",
    rejected: "z",
    turns: [],
    id: -1,
    score: NaN,
    day: null,
    time: null,
    ok: false,
  },
  {
    prompt: "a",
    chosen: null,
    rejected: "z",
    turns: null,
    id: null,
    score: null,
    day: null,
    time: null,
    ok: null,
  },
];

async function fixture(name: string, options?: ReadOptions): Promise<unknown[]> {
  return (await Array.fromAsync(readDataFiles([join(fixtures, name)], options))).map(({ value }) => value);
}

Deno.test("readDataFiles() reads large strings, dictionaries, numbers, dates and nulls from Parquet with LZ4", async () => {
  assert.deepEqual(await fixture("data/types.parquet"), TYPES);
});

Deno.test("readDataFiles() reads Arrow streams and files batch by batch", async () => {
  const rows = TYPES.map(({ prompt, chosen, rejected, day }) => ({ prompt, chosen, rejected, day }));
  assert.deepEqual(await fixture("data/stream.arrow"), rows);
  assert.deepEqual(await fixture("data/file.arrow"), rows);
  const saved = await fixture("data/saved/data-00000-of-00002.arrow");
  assert.deepEqual(saved[1], {
    prompt: [{ role: "user", content: "question 1", name: "ann" }],
    chosen: [{ role: "assistant", content: "good 1 🙂" }],
    rejected: [{ role: "assistant", content: "bad 1" }],
    score: 0.5,
    id: 2 ** 60,
    kind: "a",
  });
});

Deno.test("readDataFiles() refuses Arrow files that are cut, compressed or none", async () => {
  const whole = await Deno.readFile(join(fixtures, "data/stream.arrow"));
  for (const length of [0, 3, 9, 200, whole.length - 20, whole.length - 8]) {
    await refused("rows.arrow", whole.slice(0, length), /^rows\.arrow is not a readable Arrow file: it ends/);
  }
  await refused(
    "rows.arrow",
    await Deno.readFile(join(fixtures, "data/zstd.arrow")),
    /^rows\.arrow is not a readable Arrow file: .*[cC]o(dec|mpress)/,
  );
  await refused(
    "rows.arrow",
    new Uint8Array(8),
    /^rows\.arrow is not a readable Arrow file: it has no schema\.$/,
  );
  await refused("rows.arrow", LINES, /^rows\.arrow is not a readable Arrow file: /);
});

Deno.test("readDataFiles() decodes the chosen columns alone, so that a broken other one does no harm", async () => {
  const asked: (readonly string[])[] = [];
  const columns = (names: readonly string[]) => {
    asked.push(names);
    return names.filter((name) => name === "rejected" || name === "prompt");
  };
  const names = ["prompt", "chosen", "rejected", "notes"];
  const whole = await Deno.readFile(join(fixtures, "parquet/none.parquet"));
  const at = new TextDecoder("latin1").decode(whole).lastIndexOf("unused", whole.length - 1200);
  whole.fill(0xff, at - 16, at + 6);
  await refused("rows.parquet", whole, /not a readable Parquet file/);
  const rows = await read("rows.parquet", whole, { columns });
  assert.deepEqual(rows[4], [5, { prompt: "five 🙂", rejected: "bad 4" }]);
  assert.deepEqual(asked, [names]);
  assert.deepEqual(
    await fixture("data/stream.arrow", { columns }),
    TYPES.map(({ prompt, rejected }) => ({ prompt, rejected })),
  );
  assert.deepEqual(await fixture("data/stream.arrow", { columns: () => [] }), [{}, {}, {}]);
  assert.deepEqual(await read("rows.csv", "a,prompt\n1,2\n", { columns }), numbered({ prompt: "2" }));
});

Deno.test("readDataFiles() counts on over files of many formats", async () => {
  await withFiles({ "a.csv": "a\n1\n2\n", "b.jsonl": '\n{"a":1}\n', "c.json": '[{"a":2}]' }, async (dir) => {
    const paths = ["a.csv", "b.jsonl", "c.json"].map((name) => join(dir, name));
    const rows = await Array.fromAsync(readDataFiles(paths));
    assert.deepEqual(rows.map(({ row, file }) => [row, file]), [[1, "a.csv"], [2, "a.csv"], [4, "b.jsonl"], [
      5,
      "c.json",
    ]]);
  });
});

Deno.test("readDataFiles() chooses among the columns of Parquet, Arrow and CSV as their files name them", async () => {
  const columnsOf = async (path: string) => {
    let names: readonly string[] | null = null;
    await Array.fromAsync(readDataFiles([path], { columns: (found) => names = found }));
    return names;
  };
  assert.deepEqual(await columnsOf(join(fixtures, "parquet/none.parquet")), [
    "prompt",
    "chosen",
    "rejected",
    "notes",
  ]);
  assert.deepEqual(await columnsOf(join(fixtures, "data/stream.arrow")), [
    "prompt",
    "chosen",
    "rejected",
    "day",
  ]);
  await withFiles({ "a.tsv": '"a\tb"\t\n', "b.json": "[]", "c.csv": "a,a" }, async (dir) => {
    assert.deepEqual(await columnsOf(join(dir, "a.tsv")), ["a\tb", "Unnamed: 1"]);
    assert.equal(await columnsOf(join(dir, "b.json")), null);
    await assert.rejects(columnsOf(join(dir, "c.csv")), { message: 'c.csv has two columns "a".' });
    await assert.rejects(columnsOf(join(dir, "d.parquet")), { message: "d.parquet is not there." });
  });
});

/** A file of every format, which is mutated. */
async function seeds(): Promise<[name: string, bytes: Uint8Array][]> {
  const row = { prompt: "a b", chosen: [{ role: "user", content: "ü\n" }], rejected: '\\"' };
  const lines = Array.from({ length: 60 }, (_, id) => JSON.stringify({ ...row, id }) + "\n").join("");
  const array = JSON.stringify([row, row, { a: [null, -1.5e3, true] }], null, 1);
  const fixture = (name: string) => Deno.readFile(join(fixtures, name));
  return [
    ["a.jsonl", text(lines)],
    ["a.json", text(array)],
    ["a.csv", text('a,b\n1,"x ""y"" z"\n"3\n4",5\n'.repeat(9))],
    ["a.jsonl.gz", new Uint8Array(gzipSync(lines))],
    ["a.jsonl.zst", new Uint8Array(zstdCompressSync(lines))],
    ["a.parquet", await fixture("data/types.parquet")],
    ["b.parquet", await fixture("parquet/snappy.parquet")],
    ["a.arrow", await fixture("data/stream.arrow")],
    ["b.arrow", await fixture("data/saved/data-00000-of-00002.arrow")],
  ];
}

Deno.test("readDataFiles() yields rows or an InputError for whatever is done to a file", async () => {
  const random = new Random(7);
  const below = (most: number) => Math.floor(random.next() * most);
  await withFiles({}, async (dir) => {
    for (const [name, seed] of await seeds()) {
      let refusals = 0;
      for (let round = 0; round < 30; round++) {
        let bytes = seed.slice();
        for (let changes = below(3); changes >= 0; changes--) {
          const at = below(bytes.length);
          const kind = below(4);
          if (kind === 0) bytes[at]! ^= 1 << below(8);
          else if (kind === 1) bytes = bytes.slice(0, at + 1);
          else if (kind === 2) bytes.copyWithin(at, below(bytes.length), below(bytes.length));
          else bytes = joined(bytes.slice(0, at), bytes.slice(below(bytes.length)));
          if (bytes.length === 0) break;
        }
        const path = join(dir, name);
        await Deno.writeFile(path, bytes);
        try {
          for await (const { row, value, problem } of readDataFiles([path])) {
            assert.ok(
              row > 0 && (value === undefined) === (problem !== undefined),
              `${name}, round ${round}`,
            );
          }
        } catch (error) {
          assert.ok(error instanceof InputError, `${name}, round ${round}: ${(error as Error).stack}`);
          assert.ok(error.message.startsWith(name), error.message);
          refusals++;
        }
      }
      assert.ok(refusals > 0 || /json|csv/.test(name), name);
    }
  });
});

Deno.test("plainRow() makes lists of numbers of typed arrays, which JSON has not", () => {
  const row = plainRow({ a: BigInt64Array.of(1n, 2n ** 53n), b: { c: [Float32Array.of(0.5)] } });
  assert.deepEqual(row, { a: [1, 2 ** 53], b: { c: [[0.5]] } });
  assert.equal(JSON.stringify(row), '{"a":[1,9007199254740992],"b":{"c":[[0.5]]}}');
});
