/** Damaged files of models and adapters under a real service. */
import fc from "fast-check";
import assert from "node:assert/strict";
import { join } from "node:path";
import { filesOf } from "../../tests/engine/_lab.ts";
import { plainRows } from "../../tests/helpers/tiny_model.ts";
import { makeRealRoot, Worker } from "../../tests/service/_worker.ts";
import { changed, oddValue, places } from "./_odd.ts";
import type { Soak } from "./_soak.ts";

/** What has happened to a file. */
interface Damage {
  readonly told: string;
  /** What is left of it; null where it is gone. */
  readonly bytes: Uint8Array | null;
}

const MODEL = "models/tiny";
const SCORE = { prompt: "the thin", candidates: [" sand", " other hand"], token_logprobs: true };

/** What such files say elsewhere. */
const WORDS = ["F16", "BF16", "F64", "I32", "float16", "mistral", "qwen2", "qwen3", "gemma2", "gpt2", "phi3"];

const parse = (bytes: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(bytes));
const format = (value: unknown) => new TextEncoder().encode(JSON.stringify(value) ?? "");

/** Bytes that are cut, overwritten or longer than they were. @param within where they are overwritten */
function damagedBytes(bytes: Uint8Array, within = bytes.length): fc.Arbitrary<Damage> {
  const byte = fc.tuple(fc.nat(within - 1), fc.nat(255));
  return fc.oneof(
    fc.constant({ told: "is gone", bytes: null }),
    fc.nat(bytes.length - 1).map((length) => ({
      told: `is cut to ${length} bytes`,
      bytes: bytes.slice(0, length),
    })),
    fc.uint8Array({ minLength: 1, maxLength: 16 }).map((more) => ({
      told: `goes on with ${more}`,
      bytes: Uint8Array.of(...bytes, ...more),
    })),
    fc.array(byte, { minLength: 1, maxLength: 8 }).map((changes) => {
      const copy = bytes.slice();
      for (const [at, value] of changes) copy[at] = value;
      return { told: `has other bytes (at, value): ${changes.join("; ")}`, bytes: copy };
    }),
  );
}

/** JSON of which one place has an odd value, another place's or none. */
function damagedJson(value: unknown): fc.Arbitrary<Damage> {
  const all = places(value);
  const at = (path: readonly string[]) => path.reduce((inner, key) => (inner as never)[key], value);
  const puts = fc.oneof(
    { arbitrary: oddValue, weight: 3 },
    fc.constantFrom(...all).map(at),
    fc.constantFrom(...WORDS, undefined),
  );
  return fc.record({ place: fc.constantFrom(...all), put: puts })
    .map(({ place, put }) => ({
      told: `has at [${place}] ${JSON.stringify(put)?.slice(0, 2000)}`,
      bytes: format(changed(value, place, put)),
    }));
}

/** A safetensors file with a damaged header, its tensors' bytes as they were, or with damaged bytes anywhere. */
function damagedSafetensors(bytes: Uint8Array): fc.Arbitrary<Damage> {
  const start = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = damagedJson(parse(bytes.subarray(8, start))).map(({ told, bytes: text }) => {
    const whole = Uint8Array.of(...new Uint8Array(8), ...text!, ...bytes.subarray(start));
    new DataView(whole.buffer).setBigUint64(0, BigInt(text!.length), true);
    return { told, bytes: whole };
  });
  return fc.oneof(header, damagedBytes(bytes), damagedBytes(bytes, start));
}

function damaged(name: string, bytes: Uint8Array): fc.Arbitrary<Damage> {
  if (name.endsWith(".safetensors")) return damagedSafetensors(bytes);
  if (!name.endsWith(".json")) return damagedBytes(bytes); // a card, a template
  return fc.oneof(
    { arbitrary: damagedJson(parse(bytes)), weight: 4 },
    { arbitrary: damagedBytes(bytes), weight: 1 },
  );
}

/**
 * Damages a file of a model or of an adapter, scores with what is left, and does so again and again.
 *
 * @returns how many were used and how many refused
 * @throws where an answer is no refusal that names its field and holds no finite log-probs, the untouched model's answer
 * changes, or the process does not live
 */
export async function fuzzFiles(seed: number, count: number, signal?: AbortSignal) {
  await using root = await makeRealRoot();
  await using worker = await Worker.start(root.path);
  const train = {
    model: MODEL,
    dataset: { rows: plainRows(4) },
    lora: { r: 2 },
    max_steps: 1,
    max_length: 96,
  };
  const { id } = (await worker.post("/train", train)).body;
  const [last] = (await Array.fromAsync(worker.events(id, 0))).slice(-1);
  assert.deepEqual(last!.data, { status: "succeeded", step: 1 }, worker.log(20));
  const untouched = { ...SCORE, model: MODEL, adapter: id };
  const { body: { results } } = await worker.post("/score", untouched);

  const model = await filesOf(join(root.path, MODEL));
  const adapter = await filesOf(join(root.path, "state", "jobs", id, "result"));
  const damages = fc.oneof(
    ...([["model", model], ["adapter", adapter]] as const).flatMap(([of, files]) =>
      Object.entries(files).map(([name, bytes]) => damaged(name, bytes).map((to) => ({ of, name, ...to })))
    ),
  );
  let used = 0;
  let refused = 0;
  for (const [i, { of, name, told, bytes }] of fc.sample(damages, { seed, numRuns: count }).entries()) {
    if (signal?.aborted) break;
    const folder = `damaged-${i}`;
    await Deno.mkdir(join(root.path, folder));
    for (const [other, whole] of Object.entries(of === "model" ? model : adapter)) {
      const left = other === name ? bytes : whole;
      if (left !== null) await Deno.writeFile(join(root.path, folder, other), left);
    }
    const request = { ...SCORE, model: MODEL, [of]: folder };
    const { status, body } = await worker.post("/score", request).catch((error) => {
      throw new Error(`${i}: ${name} ${told}: no answer: ${error.message}\n${worker.log(20)}`);
    });
    const about = `${i}: ${name} ${told}: ${status} ${JSON.stringify(body)}`;
    if (status === 200) {
      used++;
      for (const { token_logprobs } of body.results) {
        assert.ok(token_logprobs.every((value: unknown) => Number.isFinite(value)), about);
      }
    } else {
      refused++;
      assert.ok([404, 422].includes(status) && body.field && body.detail, `${about}\n${worker.log(20)}`);
    }
    await Deno.remove(join(root.path, folder), { recursive: true });
    assert.deepEqual((await worker.post("/score", untouched)).body.results, results, about);
  }
  assert.equal(await worker.end("SIGTERM"), 0, worker.log(20));
  return { used, refused };
}

/** See {@link fuzzFiles}. */
export const files: Soak = {
  proves:
    "No damaged file of a model or adapter ends the service: it is refused by name, or scores are numbers.",
  version: 1,
  cells: Array.from({ length: 10 }, (_, i) => `seed ${i + 1}`),
  minutesPerCell: 3,
  run: (cell, signal) => fuzzFiles(Number(cell.split(" ")[1]), 2_000, signal),
};
