import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import { groupTokens } from "../../src/preference/pack.ts";
import { TokenFile } from "../../src/training/token_file.ts";
import { TokenWriter } from "../../src/training/token_writer.ts";
import { withFiles } from "../preference/_tokenizers.ts";

const tokens = fc.uint32Array({ maxLength: 40 });
const response = fc.record({
  tokens,
  scored_from: fc.nat(40),
  truncated: fc.boolean(),
  predicts_next: fc.constantFrom(undefined, true),
}).map(({ predicts_next, ...rest }) => predicts_next ? { ...rest, predicts_next } : rest);
const group = fc.record({
  row: fc.nat(2 ** 31),
  prompt: tokens,
  responses: fc.tuple(response, response),
  prompt_truncated: fc.nat(1000),
});

/** Uint32Arrays of a view and of their own are equal here. */
function plain(group: EncodedGroup): unknown {
  return JSON.parse(JSON.stringify(group, (_, value) => value instanceof Uint32Array ? [...value] : value));
}

Deno.test("TokenFile gives back the groups that TokenWriter wrote, in any order and as often as they are used", async () => {
  await withFiles({}, async (dir) => {
    await fc.assert(
      fc.asyncProperty(fc.array(group, { maxLength: 60 }), fc.nat(), async (groups, seed) => {
        const train = Uint32Array.from(groups, (_, i) => (i * 7 + seed) % groups.length);
        {
          using writer = new TokenWriter(join(dir, "tokens"));
          groups.forEach((group, i) => assert.equal(writer.add(group), i));
          writer.finish("key", train, train.slice(0, 2));
        }
        using file = TokenFile.open(join(dir, "tokens"));
        assert.equal(file.train.length, groups.length);
        assert.equal(file.eval.length, Math.min(2, groups.length));
        assert.equal(file.largest, groups.reduce((most, group) => Math.max(most, groupTokens(group)), 0));
        for (const [place, number] of train.entries()) {
          assert.deepEqual(plain(file.train.at(place)), plain(groups[number]!));
          assert.equal(file.train.tokens(place), groupTokens(groups[number]!));
        }
        await Promise.resolve();
      }),
      { numRuns: 30 },
    );
  });
});

Deno.test("TokenFile.isWhole() is false for another key, for none, and for a folder that was not finished", async () => {
  await withFiles({}, (dir) => {
    const folder = join(dir, "tokens");
    assert.equal(TokenFile.isWhole(folder, "key"), false);
    const add = (writer: TokenWriter) =>
      writer.add({ row: 1, prompt: Uint32Array.of(1), responses: [], prompt_truncated: 0 });
    {
      using writer = new TokenWriter(folder);
      add(writer);
      writer.finish("key", Uint32Array.of(0), new Uint32Array());
    }
    assert.equal(TokenFile.isWhole(folder, "key"), true);
    assert.equal(TokenFile.isWhole(folder, "other"), false);
    {
      using writer = new TokenWriter(folder); // a process that dies after this has written half of it
      add(writer);
    }
    assert.equal(TokenFile.isWhole(folder, "key"), false);
    return Promise.resolve();
  });
});

Deno.test("TokenFile.isWhole() is false where any of its files is damaged, cut or gone", async () => {
  await withFiles({}, (dir) => {
    const folder = join(dir, "tokens");
    {
      using writer = new TokenWriter(folder);
      writer.add({ row: 1, prompt: Uint32Array.of(1, 2), responses: [], prompt_truncated: 0 });
      writer.finish("key", Uint32Array.of(0), Uint32Array.of(0));
    }
    for (const name of ["tokens.bin", "offsets.bin", "train.bin", "eval.bin"]) {
      const path = join(folder, name);
      const bytes = Deno.readFileSync(path);
      assert.equal(TokenFile.isWhole(folder, "key"), true, name);
      const flipped = bytes.slice();
      flipped[flipped.length - 1]! ^= 4;
      for (const other of [flipped, bytes.subarray(0, -4), new Uint8Array([...bytes, 0])]) {
        Deno.writeFileSync(path, other);
        assert.equal(TokenFile.isWhole(folder, "key"), false, name);
      }
      Deno.removeSync(path);
      assert.equal(TokenFile.isWhole(folder, "key"), false, name);
      Deno.writeFileSync(path, bytes);
    }
    return Promise.resolve();
  });
});

Deno.test("TokenFile.isWhole() is false where the manifest is not as it was written", async () => {
  await withFiles({}, async (dir) => {
    const folder = join(dir, "tokens");
    {
      using writer = new TokenWriter(folder);
      writer.add({ row: 1, prompt: Uint32Array.of(1), responses: [], prompt_truncated: 0 });
      writer.finish("key", Uint32Array.of(0), Uint32Array.of());
    }
    const path = join(folder, "manifest.json");
    const written = JSON.parse(await Deno.readTextFile(path));
    assert.equal(TokenFile.isWhole(folder, "key"), true);
    const { crc32: _, ...unsealed } = written;
    const others = [
      { ...written, largest: 10 },
      { ...written, checksums: {} },
      { ...unsealed, checksums: {} },
      null,
      7,
    ];
    for (const other of [...others, { ...unsealed, checksums: null }]) {
      await Deno.writeTextFile(path, JSON.stringify(other));
      assert.equal(TokenFile.isWhole(folder, "key"), false, JSON.stringify(other));
    }
    // as an earlier version wrote it
    await Deno.writeTextFile(path, JSON.stringify(unsealed));
    assert.equal(TokenFile.isWhole(folder, "key"), true);
  });
});
