import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import type { FoundCheckpoint } from "../../src/training/checkpoint.ts";
import { checkSeen, warnOfRewritten } from "../../src/training/changes.ts";
import { type Fingerprints, fingerprintsOf, WHOLE_BYTES } from "../../src/training/fingerprint.ts";
import type { TrainRequest } from "../../src/training/request.ts";
import { inFolder } from "../helpers/folder.ts";
import { settingsOf } from "../helpers/settings.ts";

const MIB = 2 ** 20;

/** A checkpoint that was written over something. */
const written = (fingerprints: Fingerprints) =>
  ({ path: "", state: { step: 7, fingerprints } }) as unknown as FoundCheckpoint;

Deno.test("fingerprintsOf() looks at the header and at 64 blocks of a large file, at all of another", () =>
  inFolder(async (model) => {
    const path = join(model, "model.safetensors");
    const header = new Uint8Array(8 + MIB); // longer than a block
    new DataView(header.buffer).setBigUint64(0, BigInt(MIB), true);
    await Deno.writeFile(path, header);
    await Deno.truncate(path, WHOLE_BYTES + 4 * MIB);
    await Deno.writeTextFile(join(model, "config.json"), "{}");
    await Deno.writeFile(join(model, "rows.jsonl"), new Uint8Array(MIB));
    await Deno.writeTextFile(join(model, "tokenizer.json"), "{}");
    const request = { model, dataset: { path: join(model, "rows.jsonl") }, eval_dataset: null };
    const look = () => fingerprintsOf({ ...request, settings: settingsOf() }, () => Promise.resolve());
    const before = await look();
    const changed = async (name: string, at: number) => {
      const file = join(model, name);
      const write = async (byte: number) => {
        using open = await Deno.open(file, { write: true });
        await open.seek(at, Deno.SeekMode.Start);
        await open.write(Uint8Array.of(byte));
      };
      await write(1);
      await Deno.utime(file, 1, 1);
      const now = await look();
      await write(0);
      return now;
    };
    const sums = ({ weights, rows }: Fingerprints) => [...weights, ...rows!].map(({ crc32 }) => crc32);
    for (const at of [100, 8 + MIB - 1, WHOLE_BYTES + 4 * MIB - 1]) {
      const now = sums(await changed("model.safetensors", at));
      assert.deepEqual(now.map((sum, i) => sum === sums(before)[i]), [true, false, true], `${at}`);
    }
    for (const at of [0, 300_000, MIB - 1]) {
      const now = sums(await changed("rows.jsonl", at));
      assert.deepEqual(now.map((sum, i) => sum === sums(before)[i]), [true, true, false], `${at}`);
    }
    // between two blocks: nothing but the time tells
    const unseen = await changed("model.safetensors", 20 * MIB + 700_000);
    assert.deepEqual(sums(unseen), sums(before));
    const said: string[] = [];
    for (const which of ["rows", "weights"] as const) {
      warnOfRewritten(written(before), unseen, which, (message) => said.push(message));
    }
    assert.deepEqual(said, [
      "model.safetensors was written again since the checkpoint of step 7: 64 blocks of it are as they were, the rest " +
      "was not compared.",
    ]);
    warnOfRewritten(written(before), before, "weights", assert.fail);
  }));

Deno.test("fingerprintsOf() refuses what could be waited for without end, by its name", () =>
  inFolder(async (model) => {
    assert.ok((await new Deno.Command("mkfifo", { args: [join(model, "rows.jsonl")] }).output()).success);
    const request = { model, dataset: { path: join(model, "rows.jsonl") }, eval_dataset: null };
    await assert.rejects(
      fingerprintsOf({ ...request, settings: settingsOf() }, () => Promise.resolve()),
      /^InputError: rows\.jsonl is neither a file nor a folder\.$/,
    );
  }));

Deno.test("checkSeen() compares what was loaded in full, where both sides know it", () => {
  const prints = { rows: null, tokens: "1", tokenizer: "", template: "", weights: [], loaded: "a" };
  const request = {} as TrainRequest;
  for (const [before, seen] of [["a", "a"], [null, "b"], ["a", null]] as const) {
    checkSeen(request, written({ ...prints, loaded: before }), { loaded: seen }, assert.fail);
  }
  assert.throws(() => checkSeen(request, written(prints), { loaded: "b" }, assert.fail), (error) => {
    assert.ok(error instanceof InputError);
    assert.match(error.message, /^The weights of the model have changed since the checkpoint of step 7 /);
    return error.field === "model";
  });
  const said: string[] = [];
  checkSeen(
    { ...request, accept_changes: true },
    written(prints),
    { loaded: "b" },
    (each) => said.push(each),
  );
  assert.equal(said.length, 1);
});
