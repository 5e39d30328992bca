import assert from "node:assert/strict";
import { Gpu, Program } from "../../src/gpu/mod.ts";
import { type Method, objectiveOf } from "../../src/objective/mod.ts";
import { simpo, type SimpoMethod } from "../../src/objective/simpo.ts";
import { type ObjectiveLive, summarize } from "../../src/objective/objective.ts";
import { recordSumRows } from "../../src/gpu/ops/sum_rows.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { SIMPO } from "../helpers/decoder_step.ts";
import { random } from "../helpers/random.ts";
import { sftLoss, simpoLoss } from "../reference/cpu.ts";

const gpu = await Gpu.open({ device: "auto" });

const COLUMNS = simpo.columns.length;
const UNTOUCHED = 777;

interface Sequences {
  /** Average log-probs, chosen and rejected in turn. */
  readonly averages: Float32Array;
  readonly numTokens: readonly number[];
  readonly meanLogits: Float32Array;
}

function sequences(averages: Float32Array, seed = 1): Sequences {
  const source = random(seed);
  return {
    averages,
    numTokens: Array.from(averages, () => 1 + source.integer(50)),
    meanLogits: source.normals(averages.length),
  };
}

/** Average log-probs as models have them. */
function plausible(count: number, seed: number): Sequences {
  return sequences(random(seed).normals(count, 1.5).map((value) => -Math.abs(value)), seed);
}

function slice({ averages, numTokens, meanLogits }: Sequences, from: number, to: number): Sequences {
  return {
    averages: averages.slice(from, to),
    numTokens: numTokens.slice(from, to),
    meanLogits: meanLogits.slice(from, to),
  };
}

/** Runs the objective over micro-batches of one step and reads what it wrote for the last. */
async function run(method: Method, batches: readonly Sequences[]) {
  const objective = objectiveOf(method);
  const { responses: per, columns } = objective;
  const largest = Math.max(...batches.map(({ averages }) => averages.length));
  const fill = (length: number) => new Float32Array(length).fill(UNTOUCHED);
  const tensors = {
    averages: gpu.tensor("averages", [largest, 2]),
    sequence_rows: gpu.tensor("sequence_rows", [largest + 1], "u32"),
    coefficients: gpu.tensor("coefficients", [largest + per]),
    metrics: gpu.tensor("metrics", [largest / per + 1, columns.length]),
    sums: gpu.tensor("sums", [1, columns.length]),
  };
  const program = new Program<ObjectiveLive>(gpu, "test");
  const { sums: total, ...own } = tensors;
  objective.record(program, method, {
    ...own,
    logprobs: own.averages,
    collisions: null,
    numbers: null,
    statistic: null,
  });
  recordSumRows(program, { x: own.metrics, sums: total }, { rows: (live) => live.examples });
  const everything = batches.flatMap(({ numTokens }) => numTokens);
  const scored = everything.filter((_, i) => per === 1 || i % 2 === 0).reduce((sum, n) => sum + n, 0);
  for (const { averages, numTokens, meanLogits } of batches) {
    const ends = [0];
    for (const n of numTokens) ends.push(ends.at(-1)! + n);
    gpu.write(tensors.averages, interleave(averages, meanLogits));
    gpu.write(tensors.sequence_rows, Uint32Array.from(ends));
    gpu.write(tensors.coefficients, fill(largest + per));
    gpu.write(tensors.metrics, fill((largest / per + 1) * columns.length));
    program.run({
      examples: averages.length / per,
      step_examples: everything.length / per,
      step_chosen_tokens: scored,
    });
  }
  const [coefficients, metrics, sums] = await gpu.read(
    tensors.coefficients,
    tensors.metrics,
    tensors.sums,
  ) as Float32Array[];
  program.free();
  gpu.free(...Object.values(tensors));
  const live = batches.at(-1)!.averages.length;
  assert.ok(
    coefficients!.subarray(live).every((value) => value === UNTOUCHED),
    "coefficients past the live ones",
  );
  assert.ok(
    metrics!.subarray(live / per * columns.length).every((value) => value === UNTOUCHED),
    "metrics past the live ones",
  );
  const column = (name: string) =>
    metrics!.subarray(0, live / per * columns.length).filter((_, i) =>
      i % columns.length === columns.indexOf(name)
    );
  return { coefficients: coefficients!.subarray(0, live), column, sums: sums! };
}

function interleave(a: Float32Array, b: Float32Array): Float32Array {
  return Float32Array.from({ length: 2 * a.length }, (_, i) => (i % 2 === 0 ? a : b)[i >> 1]!);
}

function mean(values: ArrayLike<number>, keep: (i: number) => boolean = () => true): number {
  const kept = Array.from(values).filter((_, i) => keep(i));
  return kept.reduce((sum, value) => sum + value, 0) / kept.length;
}

const METHODS: Record<string, SimpoMethod> = {
  sigmoid: SIMPO,
  "label smoothing": { ...SIMPO, label_smoothing: 0.1 },
  hinge: { ...SIMPO, loss_type: "hinge", label_smoothing: 0.1 },
  "sft weight": { ...SIMPO, beta: 2.5, gamma: 1.4, sft_weight: 0.3 },
  "gamma 0": { ...SIMPO, gamma: 0 },
};

for (const [name, method] of Object.entries(METHODS)) {
  Deno.test(`recordObjective() agrees with float64: ${name}`, async () => {
    for (const pairs of [1, 7, 8, 65]) {
      const data = plausible(2 * pairs, pairs);
      const { averages, numTokens, meanLogits } = data;
      const expected = simpoLoss(averages, numTokens, {
        beta: method.beta,
        gamma: method.gamma,
        lossType: method.loss_type,
        labelSmoothing: method.label_smoothing,
        sftWeight: method.sft_weight,
      });
      const { coefficients, column, sums } = await run(method, [data]);
      const perToken = expected.dAverages.map((value, i) => value / numTokens[i]!);
      assertClose(coefficients, perToken, { rtol: 1e-5, name: `coefficients of ${pairs}` });
      assertClose(column("loss"), expected.pairLosses, { rtol: 1e-5, relativeTo: "element", name: "losses" });

      const metrics = summarize(objectiveOf(method), method, sums);
      const chosen = (i: number) => i % 2 === 0;
      const rejected = (i: number) => i % 2 === 1;
      const margins = Array.from({ length: pairs }, (_, p) => averages[2 * p]! - averages[2 * p + 1]!);
      const names = {
        loss: expected.loss,
        "rewards/chosen": method.beta * mean(averages, chosen),
        "rewards/rejected": method.beta * mean(averages, rejected),
        "rewards/accuracies": mean(margins.map((margin) => margin > 0 ? 1 : 0)),
        "rewards/margins": method.beta * mean(margins),
        "logps/chosen": mean(averages, chosen),
        "logps/rejected": mean(averages, rejected),
        "logits/chosen": mean(meanLogits, chosen),
        "logits/rejected": mean(meanLogits, rejected),
        sft_loss: expected.sftLoss,
      };
      assert.deepEqual(Object.keys(metrics), Object.keys(names));
      for (const [key, value] of Object.entries(names)) {
        assertClose([metrics[key]!], [value], { rtol: 1e-5, atol: 1e-6, name: `${key} of ${pairs}` });
      }
    }
  });
}

Deno.test("recordObjective() keeps the digits of losses and gradients at extreme margins", async () => {
  // beta 2, gamma 0: x = 2 (chosen - rejected)
  const margins = [0, 0.01, 1, 2.2, 2.4, 3, 5, 8, 12, 20, 30, 40].flatMap((margin) => [margin, -margin]);
  const averages = Float32Array.from(
    margins.flatMap((margin) => margin > 0 ? [-0.5, -0.5 - margin] : [-0.5 + margin, -0.5]),
  );
  const data = sequences(averages);
  const method = { ...SIMPO, gamma: 0 };
  const expected = simpoLoss(averages, data.numTokens, { beta: 2, gamma: 0, lossType: "sigmoid" });
  const { coefficients, column } = await run(method, [data]);
  const each = { rtol: 1e-5, relativeTo: "element" } as const;
  assertClose(column("loss"), expected.pairLosses, each);
  assertClose(coefficients, expected.dAverages.map((value, i) => value / data.numTokens[i]!), each);
});

Deno.test("recordObjective() stays finite where the sigmoid is all or nothing", async () => {
  const data = sequences(Float32Array.of(-1, -1e4, -1e4, -1, -1e30, -1, -1, -1e30));
  for (
    const method of [SIMPO, { ...SIMPO, label_smoothing: 0.1 }, { ...SIMPO, loss_type: "hinge" } as const]
  ) {
    const { coefficients, column } = await run(method, [data]);
    assert.ok([...coefficients, ...column("loss")].every(Number.isFinite), JSON.stringify(method));
  }
});

Deno.test("recordObjective() counts a draw as wrong", async () => {
  const { column } = await run(SIMPO, [sequences(Float32Array.of(-1, -1, -1, -1.5, -2, -1))]);
  assert.deepEqual([...column("rewards/accuracies")], [0, 1, 0]);
});

Deno.test("recordObjective() adds micro-batches to what one batch gives", async () => {
  const data = plausible(26, 4);
  const parts = [slice(data, 0, 8), slice(data, 8, 10), slice(data, 10, 26)];
  for (const method of [{ ...SIMPO, sft_weight: 0.3 }, { type: "sft" } as const]) {
    const whole = await run(method, [data]);
    const pieces = await run(method, parts);
    assertClose(pieces.sums, whole.sums, { rtol: 1e-5, relativeTo: "element", name: `${method.type} sums` });
    // those of the last micro-batch
    const last = whole.coefficients.subarray(10);
    assertClose(pieces.coefficients, last, {
      rtol: 1e-6,
      relativeTo: "element",
      name: `${method.type} coefficients`,
    });
  }
});

Deno.test("recordSumRows() sums past the software driver's budget of 65,535 loop iterations", async () => {
  const rows = 70_001;
  const x = gpu.upload(
    "x",
    [rows, COLUMNS],
    new Float32Array(rows * COLUMNS).map((_, i) => i % COLUMNS),
  );
  const sums = gpu.upload("sums", [1, COLUMNS], new Float32Array(COLUMNS).fill(0.5));
  const program = new Program(gpu, "test");
  recordSumRows(program, { x, sums }, { rows: () => rows });
  program.run({});
  assert.deepEqual([...await gpu.readF32(sums)], Array.from({ length: COLUMNS }, (_, c) => rows * c + 0.5));
  program.free();
  gpu.free(x, sums);
});

Deno.test("recordObjective() has the token-mean cross-entropy for sft", async () => {
  for (const count of [1, 8, 65]) {
    const data = plausible(count, count);
    const { averages, numTokens, meanLogits } = data;
    const expected = sftLoss(averages, numTokens);
    const { coefficients, sums } = await run({ type: "sft" }, [data]);
    const perToken = expected.dAverages.map((value, i) => value / numTokens[i]!);
    assertClose(coefficients, perToken, { rtol: 1e-6, relativeTo: "element" });
    const metrics = summarize(objectiveOf({ type: "sft" }), { type: "sft" }, sums);
    assert.deepEqual(Object.keys(metrics), ["loss", "logps/chosen", "logits/chosen"]);
    const values = [expected.loss, mean(averages), mean(meanLogits)];
    assertClose(Object.values(metrics), values, { rtol: 1e-5, name: `${count} sequences` });
  }
});
