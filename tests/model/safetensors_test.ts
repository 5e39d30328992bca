import assert from "node:assert/strict";
import fc from "fast-check";
import { InputError } from "../../src/errors.ts";
import { fromF32 } from "../../src/model/dtype.ts";
import { type SafetensorsDtype, WeightFiles } from "../../src/model/safetensors.ts";
import { writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { inFolder } from "../helpers/folder.ts";

/** A header and data as a file's bytes; whatever the header says. */
function fileBytes(
  header: unknown,
  data: Uint8Array | number,
  headerLength?: number,
): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const content = typeof data === "number" ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + json.length + content.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength ?? json.length), true);
  bytes.set(json, 8);
  bytes.set(content, 8 + json.length);
  return bytes;
}

const tensor = (dtype: string, shape: unknown, ...data_offsets: unknown[]) => ({
  dtype,
  shape,
  data_offsets,
});

Deno.test("writeSafetensors() and WeightFiles give back names, types, shapes, bytes and metadata", async () => {
  const sizes: Record<string, number> = { U8: 1, BF16: 2, F16: 2, F32: 4, I64: 8 };
  const anyTensor = fc.record({
    dtype: fc.constantFrom("U8", "BF16", "F16", "F32", "I64") as fc.Arbitrary<SafetensorsDtype>,
    shape: fc.array(fc.nat(4), { maxLength: 3 }),
    streamed: fc.boolean(),
  });
  await inFolder(async (dir) => {
    const path = `${dir}/x.safetensors`;
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.string(), anyTensor, { maxKeys: 6, noNullPrototype: true }),
        async (tensors) => {
          delete tensors.__metadata__;
          const wanted = Object.entries(tensors).map(([name, { dtype, shape, streamed }], i) => {
            const bytes = new Uint8Array(shape.reduce((a, b) => a * b, sizes[dtype]!)).map((_, k) =>
              7 * k + i
            );
            async function* pieces() {
              await Promise.resolve();
              yield bytes.subarray(0, 3);
              yield bytes.subarray(3);
            }
            return { name, dtype, shape, bytes, data: streamed ? pieces() : bytes };
          });
          await writeSafetensors(path, wanted, { format: "pt", note: "é" });
          using file = await WeightFiles.openFile(path);
          assert.deepEqual(file.metadata, { format: "pt", note: "é" });
          assert.deepEqual(file.names().sort(), wanted.map(({ name }) => name).sort());
          for (const { name, dtype, shape, bytes } of wanted) {
            assert.ok(file.has(name));
            assert.equal(file.info(name).dtype, dtype);
            assert.deepEqual(file.info(name).shape, shape);
            assert.deepEqual(await file.read(name), bytes);
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});

Deno.test("writeSafetensors() writes one file whatever the order: wide types first, then names, header to 8 bytes", async () => {
  await inFolder(async (dir) => {
    const tensors = [
      { name: "z", dtype: "F32", shape: [1], data: fromF32(Float32Array.of(1), "F32") },
      { name: "a", dtype: "BF16", shape: [3], data: fromF32(Float32Array.of(2, 3, 4), "BF16") },
      { name: "y", dtype: "F32", shape: [], data: fromF32(Float32Array.of(5), "F32") },
    ] as const;
    await writeSafetensors(`${dir}/1`, tensors);
    await writeSafetensors(`${dir}/2`, tensors.toReversed());
    const bytes = await Deno.readFile(`${dir}/1`);
    assert.deepEqual(await Deno.readFile(`${dir}/2`), bytes);
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    assert.equal(length % 8, 0);
    assert.equal(
      new TextDecoder().decode(bytes.subarray(8, 8 + length)).trimEnd(),
      `{"__metadata__":{"format":"pt"},"y":{"dtype":"F32","shape":[],"data_offsets":[0,4]},` +
        `"z":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"a":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]}}`,
    );
    assert.equal(bytes.length, 8 + length + 14);
    assert.deepEqual([...Deno.readDirSync(dir)].map(({ name }) => name).sort(), ["1", "2"]);
  });
});

Deno.test("writeSafetensors() leaves the older file alone where it fails, and nothing beside it", async () => {
  await inFolder(async (dir) => {
    const path = `${dir}/x`;
    const data = new Uint8Array([1, 2]);
    await writeSafetensors(path, [{ name: "a", dtype: "U8", shape: [2], data }]);
    const before = await Deno.readFile(path);
    async function* failing() {
      yield await Promise.resolve(data);
      throw new Error("gone");
    }
    async function* short() {
      yield await Promise.resolve(data);
    }
    await assert.rejects(
      writeSafetensors(path, [{ name: "a", dtype: "U8", shape: [9], data: failing() }]),
      /gone/,
    );
    await assert.rejects(
      writeSafetensors(path, [{ name: "a", dtype: "U8", shape: [9], data: short() }]),
      RangeError,
    );
    await assert.rejects(writeSafetensors(path, [{ name: "a", dtype: "F32", shape: [2], data }]), RangeError);
    const twice = [{ name: "a", dtype: "U8", shape: [2], data }, {
      name: "a",
      dtype: "F16",
      shape: [1],
      data,
    }] as const;
    await assert.rejects(writeSafetensors(path, twice), RangeError);
    assert.deepEqual(await Deno.readFile(path), before);
    assert.deepEqual([...Deno.readDirSync(dir)].map(({ name }) => name), ["x"]);
  });
});

Deno.test("WeightFiles.readRows() reads slices, also two at once, and refuses rows that are not there", async () => {
  await inFolder(async (dir) => {
    const values = Float32Array.from({ length: 35 }, (_, i) => i);
    await writeSafetensors(`${dir}/model.safetensors`, [
      { name: "m", dtype: "BF16", shape: [7, 5], data: fromF32(values, "BF16") },
      { name: "v", dtype: "F16", shape: [35], data: fromF32(values, "F16") },
      { name: "s", dtype: "F32", shape: [], data: fromF32(Float32Array.of(9), "F32") },
      { name: "none", dtype: "F32", shape: [0, 4], data: new Uint8Array(0) },
    ]);
    using file = await WeightFiles.open(dir);
    const [middle, tail] = await Promise.all([file.readRows("m", 2, 3), file.readRows("v", 30, 5)]);
    assert.deepEqual(middle, fromF32(values.subarray(10, 25), "BF16"));
    assert.deepEqual(tail, fromF32(values.subarray(30), "F16"));
    assert.deepEqual(await file.readF32("m"), values);
    assert.deepEqual(await file.readF32("s"), Float32Array.of(9));
    assert.equal((await file.read("none")).length, 0);
    for (const [first, count] of [[5, 3], [-1, 1], [8, 0], [NaN, 1]] as const) {
      await assert.rejects(file.readRows("m", first, count), RangeError);
    }
  });
});

Deno.test("WeightFiles.readRows() reads past 4 GiB", async () => {
  await inFolder(async (dir) => {
    const rows = 5 * 2 ** 20;
    const start = fileBytes({ w: tensor("U8", [rows, 1024], 0, rows * 1024) }, 0);
    await Deno.writeFile(`${dir}/x`, start);
    await Deno.truncate(`${dir}/x`, start.length + rows * 1024); // sparse: takes no room
    using out = await Deno.open(`${dir}/x`, { write: true });
    await out.seek(-1024, Deno.SeekMode.End);
    await out.write(new Uint8Array(1024).fill(7));
    using file = await WeightFiles.openFile(`${dir}/x`);
    assert.deepEqual(await file.readRows("w", rows - 1, 1), new Uint8Array(1024).fill(7));
    assert.deepEqual(await file.readRows("w", rows - 2, 1), new Uint8Array(1024));
  });
});

Deno.test("WeightFiles.expect() and readF32() refuse a missing tensor, another shape and another type", async () => {
  await inFolder(async (dir) => {
    await writeSafetensors(`${dir}/x`, [
      { name: "w", dtype: "F32", shape: [2, 1], data: new Uint8Array(8) },
      { name: "i", dtype: "I32", shape: [1], data: new Uint8Array(4) },
    ]);
    using file = await WeightFiles.openFile(`${dir}/x`);
    assert.equal(file.expect("w", [2, 1]).dtype, "F32");
    assert.throws(() => file.expect("lost", [1]), { name: "InputError", message: /no tensor "lost"/ });
    assert.throws(() => file.expect("w", [1, 2]), {
      name: "InputError",
      message: /shape \[2,1\].*asks for \[1,2\]/,
    });
    assert.throws(() => file.expect("w", [2]), InputError);
    assert.throws(() => file.expect("i", [1]), { name: "InputError", message: /type I32.*F32, F16 or BF16/ });
    await assert.rejects(file.readF32("i"), InputError);
  });
});

Deno.test("WeightFiles.readRows() says that the file became shorter", async () => {
  await inFolder(async (dir) => {
    await writeSafetensors(`${dir}/x`, [{ name: "w", dtype: "U8", shape: [100], data: new Uint8Array(100) }]);
    using file = await WeightFiles.openFile(`${dir}/x`);
    await Deno.truncate(`${dir}/x`, 90);
    await assert.rejects(file.read("w"), { name: "InputError", message: /shorter since it was opened/ });
  });
});

const good = { a: tensor("F32", [2], 0, 8), b: tensor("F16", [2, 1], 8, 12) };
for (
  const [what, bytes, message] of [
    ["an empty file", new Uint8Array(0), /has 0 bytes, too few/],
    ["a file of 7 bytes", new Uint8Array(7), /too few/],
    ["a truncated file", fileBytes(good, 11), /is truncated: its tensors take \d+ bytes, but it has \d+/],
    ["bytes after the last tensor", fileBytes(good, 13), /has 1 bytes after its last tensor/],
    [
      "a header longer than the file",
      fileBytes(good, 0, 5000),
      /header of 5000 bytes, but it can have at most/,
    ],
    ["a header of 2^63 bytes", fileBytes(good, 12, 2 ** 63), /header of 9223372036854775808 bytes/],
    [
      "a pointer of Git LFS",
      new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
      /is a pointer of Git LFS .* `git lfs pull`/,
    ],
    ["a header that is not JSON", fileBytes("{oops", 0), /not JSON/],
    ["a header that is not UTF-8", fileBytes(good, 12).map((byte, i) => i === 10 ? 0xff : byte), /not JSON/],
    ["a header that is a list", fileBytes([], 0), /no JSON object/],
    [
      "a header nested 2^23 deep",
      fileBytes("[".repeat(2 ** 23), 0),
      /header that is nested more than 8 deep/,
    ],
    ["a header of 16 MiB", fileBytes(`{}${" ".repeat(2 ** 24)}`, 0), /can have at most 16777216/],
    [
      "a header of 30,001 tensors",
      fileBytes(`{${'"a":{},'.repeat(30_000)}"a":{}}`, 0),
      /header that holds an object of more than 30000 fields/,
    ],
    ["a header of lists", fileBytes(`{"a":[${"[],".repeat(200_000)}0]}`, 0), /120000 objects and lists/],
    [
      "overlapping tensors",
      fileBytes({ ...good, b: tensor("F16", [2], 6, 10) }, 10),
      /overlapping.*b begins inside a/,
    ],
    ["a hole", fileBytes({ ...good, b: tensor("F16", [2], 9, 13) }, 13), /hole of 1 bytes before b/],
    [
      "a hole before the first tensor",
      fileBytes({ a: tensor("U8", [1], 1, 2) }, 2),
      /hole of 1 bytes before a/,
    ],
    [
      "a size that the shape denies",
      fileBytes({ a: tensor("F32", [3], 0, 8) }, 8),
      /a 8 bytes, but F32 \[3\] takes 12/,
    ],
    ["an unknown type", fileBytes({ a: tensor("F4", [2], 0, 1) }, 1), /a the type "F4"/],
    [
      "a type of the object's prototype",
      fileBytes({ a: tensor("toString", [2], 0, 1) }, 1),
      /the type "toString"/,
    ],
    ["a negative shape", fileBytes({ a: tensor("U8", [-1, -8], 0, 8) }, 8), /the shape \[-1,-8\]/],
    ["a shape that is no list", fileBytes({ a: tensor("U8", 8, 0, 8) }, 8), /the shape 8/],
    ["offsets that descend", fileBytes({ a: tensor("U8", [0], 8, 0) }, 8), /data_offsets \[8,0\]/],
    ["offsets past 2^53", fileBytes({ a: tensor("U8", [8], 2 ** 60, 2 ** 60 + 8) }, 8), /data_offsets/],
    ["one offset", fileBytes({ a: tensor("U8", [8], 0) }, 8), /data_offsets \[0\]/],
    ["an entry that is no object", fileBytes({ a: null }, 0), /a the type nothing/],
    [
      "metadata that are not strings",
      fileBytes({ __metadata__: { n: 1 }, ...good }, 12),
      /__metadata__ of {"n":1}/,
    ],
  ] as const
) {
  Deno.test(`WeightFiles.openFile() refuses ${what}`, async () => {
    await inFolder(async (dir) => {
      await Deno.writeFile(`${dir}/bad.safetensors`, bytes);
      await assert.rejects(WeightFiles.openFile(`${dir}/bad.safetensors`), (error) => {
        assert.ok(error instanceof InputError, `${error}`);
        assert.equal(error.field, "bad.safetensors");
        assert.match(error.message, message);
        return true;
      });
    });
  });
}

Deno.test("WeightFiles.openFile() refuses any other damage or reads what is there, and never fails otherwise", async () => {
  const whole = fileBytes(good, 12);
  await inFolder(async (dir) => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(whole.length - 1),
        fc.nat(255),
        fc.nat(whole.length),
        async (at, byte, length) => {
          const bytes = whole.slice(0, length);
          if (at < length) bytes[at] = byte;
          await Deno.writeFile(`${dir}/x`, bytes);
          try {
            using file = await WeightFiles.openFile(`${dir}/x`);
            for (const name of file.names()) await file.read(name);
          } catch (error) {
            assert.ok(error instanceof InputError, `${error}`);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

/** A folder with two shards and an index. */
async function sharded(dir: string, weight_map: unknown): Promise<void> {
  const one = (name: string, value: number) =>
    [{ name, dtype: "F32", shape: [1], data: fromF32(Float32Array.of(value), "F32") }] as const;
  await writeSafetensors(`${dir}/model-1.safetensors`, one("first", 1));
  await writeSafetensors(`${dir}/model-2.safetensors`, one("second", 2));
  await Deno.writeTextFile(
    `${dir}/model.safetensors.index.json`,
    JSON.stringify({ metadata: {}, weight_map }),
  );
}

Deno.test("WeightFiles.open() reads shards through their index", async () => {
  await inFolder(async (dir) => {
    await sharded(dir, { second: "model-2.safetensors", first: "model-1.safetensors" });
    using file = await WeightFiles.open(dir);
    assert.deepEqual(file.names(), ["second", "first"]);
    assert.deepEqual(await file.readF32("first"), Float32Array.of(1));
    assert.deepEqual(await file.readF32("second"), Float32Array.of(2));
    assert.equal(file.info("second").file, `${dir}/model-2.safetensors`);
  });
});

for (
  const [what, map, message] of [
    [
      "a missing shard",
      { first: "model-3.safetensors" },
      /the shard "model-3.safetensors", which is missing/,
    ],
    [
      "a tensor that its shard lacks",
      { first: "model-2.safetensors" },
      /puts "first" into "model-2.safetensors", which does not hold it/,
    ],
    ["a shard above the folder", { first: "../model-1.safetensors" }, /puts "first" into "\.\.\/model/],
    ["a shard by an absolute path", { first: "/etc/passwd" }, /puts "first" into "\/etc\/passwd"/],
    ["a shard in another folder", { first: "sub/model-1.safetensors" }, /puts "first" into/],
    ["a shard behind a backslash", { first: "..\\model-1.safetensors" }, /puts "first" into/],
    ["the folder above as a shard", { first: ".." }, /puts "first" into "\.\."/],
    ["a shard that is no string", { first: 1 }, /puts "first" into 1/],
    ["an index without weight_map", undefined, /weight_map is nothing/],
    ["an empty weight_map", {}, /weight_map is {}/],
    [
      "1,001 shards",
      Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`t${i}`, `${i}.safetensors`])),
      /weight_map names 1001 files/,
    ],
  ] as const
) {
  Deno.test(`WeightFiles.open() refuses ${what}`, async () => {
    await inFolder(async (dir) => {
      await sharded(dir, map);
      await assert.rejects(WeightFiles.open(dir), (error) => {
        assert.ok(error instanceof InputError, `${error}`);
        assert.equal(error.field, "model.safetensors.index.json: weight_map");
        assert.match(error.message, message);
        return true;
      });
    });
  });
}

Deno.test("WeightFiles.open() refuses a malformed shard, a broken index and a folder without weights", async () => {
  await inFolder(async (dir) => {
    await assert.rejects(WeightFiles.open(dir), {
      name: "InputError",
      message: /neither model\.safetensors nor \S+index\.json\.$/,
    });
    for (const other of ["pytorch_model-00001-of-00002.bin", "tiny.Q4_K.gguf", "consolidated.safetensors"]) {
      await Deno.writeTextFile(`${dir}/${other}`, "");
      await assert.rejects(WeightFiles.open(dir), {
        message: new RegExp(`but ${other}, which must be conv`),
      });
      await Deno.remove(`${dir}/${other}`);
    }
    await sharded(dir, { first: "model-1.safetensors", second: "model-2.safetensors" });
    await Deno.truncate(`${dir}/model-2.safetensors`, 80);
    await assert.rejects(WeightFiles.open(dir), { name: "InputError", message: /^model-2\.safetensors/ });
    await Deno.writeTextFile(`${dir}/model.safetensors.index.json`, "{");
    await assert.rejects(WeightFiles.open(dir), { name: "InputError", message: /index\.json is not JSON/ });
    await Deno.mkdir(`${dir}/model.safetensors`);
    await assert.rejects(WeightFiles.open(dir), { name: "InputError", message: /is a folder, not a file/ });
  });
});
