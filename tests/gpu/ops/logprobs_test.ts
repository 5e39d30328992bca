import assert from "node:assert/strict";
import { type Gpu, Program } from "../../../src/gpu/mod.ts";
import {
  recordAverageLogprobs,
  recordLogsumexp,
  recordLogsumexpGrad,
  type VocabularyChunk,
} from "../../../src/gpu/ops/logprobs.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { averageLogprobs, softCap, softCapGrad } from "../../reference/cpu.ts";
import { input, openBothLayouts, output, readLive } from "./_tensors.ts";

const layouts = await openBothLayouts();

type Live = { rows: number; sequences: number };

interface Case {
  readonly vocabulary: number;
  /** Columns of a chunk; the last one is shorter. */
  readonly chunk: number;
  /** Rows of each sequence. */
  readonly lengths: readonly number[];
  /** Added to the logits of the ids from `from` on. */
  readonly shift?: { readonly from: number; readonly by: number };
  readonly softcap?: number;
  /** Logits are whole numbers, many of them equal. */
  readonly whole?: boolean;
}

const CASES: readonly Case[] = [
  { vocabulary: 1, chunk: 1, lengths: [1] },
  { vocabulary: 97, chunk: 97, lengths: [1, 6, 2] },
  { vocabulary: 97, chunk: 13, lengths: [65, 4] },
  { vocabulary: 131, chunk: 64, lengths: [9] },
  { vocabulary: 1009, chunk: 500, lengths: [3, 130, 7] },
  // past the software driver's budget of 65,535 loop iterations
  { vocabulary: 70_001, chunk: 70_001, lengths: [2, 1] },
  { vocabulary: 70_001, chunk: 16_384, lengths: [2, 1] },
  // the first chunk vanishes beside the second, and the other way round
  { vocabulary: 40, chunk: 20, lengths: [5], shift: { from: 20, by: 3000 } },
  { vocabulary: 40, chunk: 20, lengths: [5], shift: { from: 20, by: -3000 } },
  { vocabulary: 97, chunk: 13, lengths: [65, 4], softcap: 5 },
  { vocabulary: 1009, chunk: 500, lengths: [3, 130, 7], softcap: 30 },
  { vocabulary: 40, chunk: 20, lengths: [5], softcap: 50, shift: { from: 20, by: 3000 } },
  { vocabulary: 40, chunk: 20, lengths: [5], softcap: 50, shift: { from: 20, by: -3000 } },
  { vocabulary: 1009, chunk: 100, lengths: [70], whole: true },
  { vocabulary: 1009, chunk: 1009, lengths: [70], whole: true, softcap: 20 },
];

function chunksOf({ vocabulary, chunk }: Case): VocabularyChunk[] {
  return Array.from({ length: Math.ceil(vocabulary / chunk) }, (_, i) => ({
    first_id: i * chunk,
    columns: Math.min(chunk, vocabulary - i * chunk),
  }));
}

function offsets(lengths: readonly number[]): Uint32Array {
  const ends = [0];
  for (const length of lengths) ends.push(ends.at(-1)! + length);
  return Uint32Array.from(ends);
}

/** Logits, targets, and what float64 makes of them. */
function reference(one: Case, rows: number) {
  const { vocabulary, shift, whole, softcap } = one;
  const source = random(vocabulary + rows);
  const logits = source.normals(rows * vocabulary, 3).map((value, i) =>
    (whole ? Math.round(value) : value) + (shift && i % vocabulary >= shift.from ? shift.by : 0)
  );
  const targets = source.integers(rows, vocabulary);
  const capped = softcap ? softCap(logits, softcap) : Float64Array.from(logits);
  const slopes = softcap ? softCapGrad(logits, softcap) : capped.map(() => 1);
  const softmax = new Float64Array(logits.length);
  const logprobs = new Float64Array(rows);
  const means = new Float64Array(rows);
  const best = new Uint32Array(rows);
  const collisions = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const own = capped.subarray(row * vocabulary, (row + 1) * vocabulary);
    const peak = own.reduce((a, b) => Math.max(a, b));
    const lse = peak + Math.log(own.reduce((sum, logit) => sum + Math.exp(logit - peak), 0));
    own.forEach((logit, c) => softmax[row * vocabulary + c] = Math.exp(logit - lse));
    logprobs[row] = own[targets[row]!]! - lse;
    best[row] = own.indexOf(peak);
    collisions[row] = Math.log(own.reduce((sum, logit) => sum + Math.exp(2 * (logit - lse)), 0));
    means[row] = own.reduce((sum, logit) => sum + logit, 0) / vocabulary;
  }
  return { logits, targets, softmax, slopes, logprobs, means, best, collisions };
}

/** One chunk of the logits; columns past the vocabulary's end hold NaN. */
function slice(one: Case, logits: Float32Array, { first_id, columns }: VocabularyChunk): Float32Array {
  const { vocabulary, chunk } = one;
  return Float32Array.from({ length: logits.length / vocabulary * chunk }, (_, i) => {
    const column = i % chunk;
    return column < columns ? logits[Math.floor(i / chunk) * vocabulary + first_id + column]! : NaN;
  });
}

async function check(gpu: Gpu, one: Case): Promise<void> {
  const name = JSON.stringify(one);
  const { vocabulary, chunk, lengths } = one;
  const sequenceRows = offsets(lengths);
  const rows = sequenceRows.at(-1)!;
  const { logits, targets, softmax, slopes, logprobs, means, best, collisions } = reference(one, rows);
  const coefficients = random(7).normals(lengths.length);
  const rowSequences = Uint32Array.from(lengths.flatMap((length, s) => new Array<number>(length).fill(s)));
  const fixed = {
    targets: input(gpu, targets, 1),
    state: output(gpu, rows, 4),
  };
  const largest = gpu.upload("best", [rows + 1], new Uint32Array(rows + 1).fill(777));
  const settings = { softcap: one.softcap ?? null };
  const squares = output(gpu, rows, 1);
  const head = { logprobs: output(gpu, rows, 1), averages: output(gpu, lengths.length, 2) };
  const sequence_rows = input(gpu, sequenceRows, 1);
  const gradient = {
    row_sequences: input(gpu, rowSequences, 1),
    coefficients: input(gpu, coefficients, 1),
  };
  const chunks = chunksOf(one);
  const tensors = chunks.map((part) => output(gpu, rows, chunk, slice(one, logits, part)));
  const program = new Program<Live>(gpu, "test");
  chunks.forEach((part, i) =>
    recordLogsumexp(program, { logits: tensors[i]!, ...fixed, best: largest, collisions: squares }, {
      ...part,
      ...settings,
    })
  );
  const gathered = { state: fixed.state, sequence_rows, ...head, collisions: squares };
  recordAverageLogprobs(program, gathered, { vocabulary });
  chunks.forEach((part, i) =>
    recordLogsumexpGrad(program, { logits: tensors[i]!, ...fixed, ...gradient }, { ...part, ...settings })
  );
  program.run({ rows, sequences: lengths.length });

  const [actualLogprobs, averages] = await readLive(gpu, head.logprobs, head.averages);
  assertClose(actualLogprobs!, logprobs, { rtol: 1e-5, name: `logprobs ${name}` });
  const [actualCollisions] = await readLive(gpu, squares);
  assertClose(actualCollisions!, collisions, { rtol: 1e-5, atol: 1e-5, name: `collisions ${name}` });
  const expectedAverages = averageLogprobs(logprobs, sequenceRows);
  const expectedLogits = averageLogprobs(means, sequenceRows);
  const actual = (column: number) => averages!.filter((_, i) => i % 2 === column);
  assertClose(actual(0), expectedAverages, { rtol: 1e-5, name: `average log-probs ${name}` });
  // a mean of numbers of both signs: an error in proportion to their size
  const atol = 1e-5 * (1 + Math.abs(one.shift?.by ?? 0));
  assertClose(actual(1), expectedLogits, { rtol: 1e-5, atol, name: `mean logits ${name}` });

  assert.deepEqual((await gpu.read(largest))[0], Uint32Array.of(...best, 777), `best ${name}`);

  const gradients = await readLive(gpu, ...tensors);
  chunks.forEach((part, i) => {
    const live = (values: Float32Array) => values.filter((_, at) => at % chunk < part.columns);
    const expected = Float64Array.from({ length: rows * part.columns }, (_, at) => {
      const row = Math.floor(at / part.columns);
      const id = part.first_id + at % part.columns;
      const hit = id === targets[row] ? 1 : 0;
      const logit = row * vocabulary + id;
      return coefficients[rowSequences[row]!]! * (hit - softmax[logit]!) * slopes[logit]!;
    });
    assertClose(live(gradients[i]!), expected, { rtol: 1e-5, atol: 1e-6, name: `d_logits ${name}` });
  });
  program.free();
  gpu.free(
    ...tensors,
    largest,
    sequence_rows,
    ...[fixed, head, gradient].flatMap((group) => Object.values(group)),
  );
}

for (const gpu of layouts) {
  Deno.test(`recordLogsumexp(), averages and gradient agree with float64, ${gpu.policy.row_lanes} lanes a row`, async () => {
    for (const one of CASES) await check(gpu, one);
  });
}

Deno.test("recordLogsumexp() without its options gives the bits that it gives beside them", async () => {
  const gpu = layouts[0]!;
  const [rows, columns] = [37, 131];
  const source = random(5);
  const logits = gpu.upload("logits", [rows, columns], source.normals(rows * columns, 3));
  const targets = gpu.upload("targets", [rows], source.integers(rows, columns));
  const [plain, beside] = [gpu.tensor("state", [rows, 4]), gpu.tensor("state", [rows, 4])];
  const best = gpu.tensor("best", [rows], "u32");
  const program = new Program<Live>(gpu, "test");
  recordLogsumexp(program, { logits, targets, state: plain }, { first_id: 0, columns });
  recordLogsumexp(program, { logits, targets, state: beside, best }, { first_id: 0, columns });
  program.run({ rows, sequences: 1 });
  assert.deepEqual(await gpu.readF32(plain), await gpu.readF32(beside));
});

Deno.test("recordAverageLogprobs() sums a response longer than the loop budget", async () => {
  const gpu = layouts[0]!;
  const lengths = [3, 70_001, 1];
  const sequenceRows = offsets(lengths);
  const rows = sequenceRows.at(-1)!;
  const state = Float32Array.from(
    random(1).normals(rows * 4),
    (value, i) => i % 4 === 1 ? Math.abs(value) + 1 : value,
  );
  const tensors = {
    state: gpu.upload("state", [rows, 4], state),
    sequence_rows: gpu.upload("sequence_rows", [4], sequenceRows),
    logprobs: gpu.tensor("logprobs", [rows]),
    averages: gpu.tensor("averages", [3, 2]),
  };
  const program = new Program<Live>(gpu, "test");
  recordAverageLogprobs(program, tensors, { vocabulary: 10 });
  program.run({ rows, sequences: 3 });
  const logprobs = Float64Array.from({ length: rows }, (_, row) => {
    const [peak, sum, target] = state.subarray(row * 4) as unknown as [number, number, number];
    return target - peak - Math.log(sum);
  });
  assertClose(await gpu.readF32(tensors.logprobs), logprobs, { rtol: 1e-5 });
  const averages = (await gpu.readF32(tensors.averages)).filter((_, i) => i % 2 === 0);
  assertClose(averages, averageLogprobs(logprobs, sequenceRows), { rtol: 1e-5 });
});
