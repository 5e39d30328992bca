import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { loadDecoder } from "../../src/model/loading.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { packGroups } from "../../src/preference/pack.ts";
import { TrainStep } from "../../src/training/step.ts";
import { encodedGroup, SIMPO } from "../helpers/decoder_step.ts";
import { settingsOf } from "../helpers/settings.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";
import { PreparedFile } from "../../src/training/prepared_file.ts";
import type { TrainEvent } from "../../src/training/request.ts";
import { tokenFolder } from "../../src/training/token_files.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { inFolder } from "../helpers/folder.ts";
import { BETA, ldDpo } from "./_ld_dpo.ts";
import { runTiny } from "./_run.ts";

const LD_DPO = ldDpo(0.5);
const SPEC = { max_steps: 4, batch_size: 4, learning_rate: 1e-2, save_steps: 1, micro_batch_tokens: 128 };

function metricsOf(events: readonly TrainEvent[]) {
  return events.filter((event) => event.type === "metrics").map(({ metrics }) => metrics);
}

/** Ends the run once as many micro-batches were queued. */
function stopsAfter(batches: number) {
  let calls = 0;
  return { between: () => Promise.resolve(++calls > batches ? "stop" as const : "continue" as const) };
}

async function preparedPath(directory: string): Promise<string> {
  const names = await Array.fromAsync(Deno.readDir(tokenFolder(directory)), ({ name }) => name);
  return join(tokenFolder(directory), names.find((name) => name.startsWith("prepared-"))!);
}

for (
  const [kind, lora] of Object.entries({ LoRA: {}, "full fine-tuning": { lora: null, learning_rate: 1e-3 } })
) {
  Deno.test(`train() hands an objective its reference's log-probs of step 0: ${kind}`, async () => {
    const { outcome, events } = await runTiny({ spec: { ...SPEC, ...lora }, objective: LD_DPO });
    assert.equal(outcome.outcome, "succeeded");
    const [first, , , last] = metricsOf(events);
    // the policy is its own reference still
    assertClose([first!["loss"]!], [Math.LN2], { rtol: 1e-5 });
    assertClose([first!["rewards/margins"]!, first!["statistic"]!], [0, 0], { rtol: 0, atol: 1e-4 });
    assert.ok(last!["loss"]! < Math.LN2 - 0.01, `the loss is ${last!["loss"]}`);
    // the statistic is one of the whole step, and of the weights before it
    assert.ok(Math.abs(last!["statistic"]!) > 0.01, `the statistic is ${last!["statistic"]}`);
  });
}

Deno.test("TrainStep hands an objective every response's numbers, and takes its rows' coefficients", async () => {
  await inFolder(async (folder) => {
    await writeTinyModel(folder);
    const gpu = await Gpu.open({ device: "auto" });
    using checkpoint = await WeightFiles.open(folder);
    const { decoder, free } = await loadDecoder(gpu, checkpoint, await readModelConfig(folder), {
      trainable: false,
    });
    const groups = [[[5, 6, 7, 8], [9, 10]], [[11], [12, 13, 14]]].map((responses, i) => {
      const group = encodedGroup([1, 2, 3], responses, i);
      const withNumbers = group.responses.map((response, r) => ({
        ...response,
        numbers: Float32Array.of(-9 - r - i),
      }));
      return { ...group, responses: withNumbers };
    });
    const settings = { ...settingsOf({ lora: null }), method: SIMPO };
    const step = new TrainStep(gpu, { decoder, settings, objective: LD_DPO }, {
      tokens: 32,
      rows: 32,
      sequences: 8,
    });
    const batch = packGroups(groups);
    step.evaluation.run(step.upload(batch, { step_examples: 2, step_chosen_tokens: 1 }));
    const [logprobs, coefficients] = await gpu.read(
      step.pass.logprobs,
      step.pass.coefficients,
    ) as Float32Array[];
    const expected = [0, 1].flatMap((pair) => {
      const [from, middle, to] = batch.sequence_rows.subarray(2 * pair) as unknown as [
        number,
        number,
        number,
      ];
      const shorter = Math.min(middle - from, to - middle);
      const weights = (first: number, end: number) =>
        Array.from({ length: end - first }, (_, i) => i < shorter ? 1 : 0.5);
      const sum = (first: number, end: number, response: number) =>
        weights(first, end).reduce(
          (all, weight, i) => all + weight * logprobs![first + i]!,
          9 + response + pair,
        );
      const z = BETA * (sum(from, middle, 0) - sum(middle, to, 1));
      const pull = BETA / 2 / (1 + Math.exp(z));
      return [...weights(from, middle).map((w) => -pull * w), ...weights(middle, to).map((w) => pull * w)];
    });
    assertClose(coefficients!.subarray(0, batch.rows), expected, { rtol: 1e-5 });
    step.free();
    free();
    gpu.close();
  });
});

Deno.test("train() takes a coefficient a row where an objective has one", async () => {
  const [bySequence, byRow, half] = await Promise.all([
    runTiny({ spec: SPEC, objective: ldDpo(1, "sequence") }),
    runTiny({ spec: SPEC, objective: ldDpo(1) }),
    runTiny({ spec: SPEC, objective: LD_DPO }),
  ]);
  assert.deepEqual(metricsOf(byRow.events), metricsOf(bySequence.events));
  const lossOf = ({ events }: typeof half) => metricsOf(events).at(-1)!["loss"];
  assert.notEqual(lossOf(half), lossOf(byRow));
});

Deno.test("train() goes on with what was prepared, bit for bit, wherever it was stopped", async () => {
  const whole = metricsOf((await runTiny({ spec: SPEC, objective: LD_DPO })).events);
  // in the preparation (rows, weights and tokens pause too), in the first steps
  for (const batches of [2, 6, 12]) {
    await inFolder(async (directory) => {
      await runTiny({ spec: SPEC, objective: LD_DPO, directory, context: stopsAfter(batches) });
      const { outcome, events } = await runTiny({ spec: SPEC, objective: LD_DPO, directory });
      assert.equal(outcome.outcome, "succeeded");
      assert.deepEqual(metricsOf(events), whole, `stopped after ${batches} batches`);
    });
  }
});

Deno.test("train() refuses to go on where what was prepared is damaged and the policy of step 0 has gone", async () => {
  await inFolder(async (directory) => {
    const first = runTiny({
      spec: SPEC,
      objective: LD_DPO,
      directory,
      onEvent: (event) => {
        if (event.type === "checkpoint" && event.step === 2) throw new Error("killed");
      },
    });
    await assert.rejects(first, /killed/);
    const path = await preparedPath(directory);
    const bytes = await Deno.readFile(path);
    bytes[20]! ^= 1;
    await Deno.writeFile(path, bytes);
    await assert.rejects(
      runTiny({ spec: SPEC, objective: LD_DPO, directory }),
      (error: Error) =>
        error instanceof InputError && /reference_logprob .* after step 2/.test(error.message),
    );
  });
});

Deno.test("PreparedFile goes on behind the last whole record", async () => {
  await inFolder(async (folder) => {
    const write = () => {
      const file = new PreparedFile(folder, "key", 5, 2);
      file.append(Float32Array.of(1, 2, 3, 4));
      file.append(Float32Array.of(5, 6));
      return file;
    };
    assert.equal(write().done, 3);
    const [{ name }] = await Array.fromAsync(Deno.readDir(folder)) as [Deno.DirEntry];
    const path = join(folder, name);
    const bytes = await Deno.readFile(path);
    for (let length = bytes.length; length >= 0; length--) {
      await Deno.writeFile(path, bytes.subarray(0, length));
      const { done } = new PreparedFile(folder, "key", 5, 2);
      assert.equal(done, length === bytes.length ? 3 : length >= 24 ? 2 : 0, `${length} bytes`);
    }
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = bytes.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      await Deno.writeFile(path, damaged);
      assert.equal(new PreparedFile(folder, "key", 5, 2).done, bit < 24 * 8 ? 0 : 2, `bit ${bit}`);
    }
    await Deno.remove(path);
    const file = write();
    assert.equal(new PreparedFile(folder, "another key", 5, 2).done, 0);
    assert.equal(file.isWhole, false);
    file.append(Float32Array.of(7, 8, 9, 10));
    const again = new PreparedFile(folder, "key", 5, 2);
    assert.equal(again.isWhole, true);
    assert.deepEqual([...again.of(3)], [7, 8]);
  });
});
