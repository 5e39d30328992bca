/** One optimiser step or one scoring pass over groups of token ids, without a tokenizer, a loop or an optimiser. */
import { type Gpu, Program } from "../../src/gpu/mod.ts";
import type { BatchLive, Budget } from "../../src/model/batch.ts";
import type { Decoder } from "../../src/model/decoder.ts";
import type { TrainedParameters } from "../../src/model/parameters.ts";
import { DecoderPass } from "../../src/model/pass.ts";
import type { PassOptions } from "../../src/model/pass_layers.ts";
import { alignSharing } from "../../src/model/rope.ts";
import { adapterName } from "../../src/model/weights.ts";
import { type Method, objectiveOf } from "../../src/objective/mod.ts";
import type { SimpoMethod } from "../../src/objective/simpo.ts";
import type { Objective } from "../../src/objective/objective.ts";
import { TrainStep } from "../../src/training/step.ts";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import { type PackedBatch, packGroups } from "../../src/preference/pack.ts";

/** SimPO as the reference values have it. */
export const SIMPO: SimpoMethod = {
  type: "simpo",
  beta: 2,
  gamma: 1,
  loss_type: "sigmoid",
  label_smoothing: 0,
  sft_weight: 0,
};

/** A prompt with responses of which every token is scored. */
export function encodedGroup(
  prompt: ArrayLike<number>,
  responses: readonly ArrayLike<number>[],
  row = 1,
): EncodedGroup {
  return {
    row,
    prompt: Uint32Array.from(prompt),
    responses: responses.map((tokens) => ({
      tokens: Uint32Array.from(tokens),
      scored_from: 0,
      truncated: false,
    })),
    prompt_truncated: 0,
  };
}

/** The largest of the batches, and a little more: buffers are larger than what is live. */
export function budgetFor(batches: readonly PackedBatch[]): Budget {
  const most = (key: "tokens" | "rows" | "sequences") => Math.max(1, ...batches.map((batch) => batch[key]));
  return { tokens: most("tokens") + 5, rows: most("rows") + 3, sequences: most("sequences") + 2 };
}

/** One batch, laid out as scoring and training do for this decoder. */
function packFor({ config }: Decoder, groups: readonly EncodedGroup[]): PackedBatch {
  return packGroups(groups.map((group) => alignSharing(config.plan.ropes, group)));
}

/** Log-probs of the groups' scored tokens and, per response, their mean. */
export async function scoreGroups(
  gpu: Gpu,
  decoder: Decoder,
  groups: readonly EncodedGroup[],
): Promise<{ readonly logprobs: Float32Array; readonly averages: Float32Array }> {
  const batch = packFor(decoder, groups);
  const pass = new DecoderPass(gpu, decoder, budgetFor([batch]), { mode: "score" });
  const program = new Program<BatchLive>(gpu, "score");
  pass.recordForward(program);
  program.run({ ...pass.upload(batch), dropout_seed: 1 });
  const [logprobs, averages] = await gpu.read(pass.logprobs, pass.averages) as Float32Array[];
  program.free();
  pass.free();
  return {
    logprobs: logprobs!.subarray(0, batch.rows),
    averages: averages!.subarray(0, 2 * batch.sequences).filter((_, i) => i % 2 === 0),
  };
}

/** What one optimiser step computes before its update. */
export interface Step {
  /** Of the batches in turn. */
  readonly logprobs: Float32Array;
  readonly averages: Float32Array;
  readonly meanLogits: Float32Array;
  readonly metrics: Readonly<Record<string, number>>;
  /** By the names of weights in files, an adapter's as PEFT has them. */
  readonly gradients: Map<string, Float32Array>;
}

const ADAMW = { adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, weight_decay: 0, max_grad_norm: 1 };

/** Leaves the coefficients as they were written. */
const AS_UPLOADED: Objective = { ...objectiveOf(SIMPO), responses: 1, record() {} };

/** What {@link trainingStep} does otherwise than training with {@link SIMPO} does. */
interface StepOptions {
  readonly options?: Omit<PassOptions, "mode">;
  readonly method?: Method;
  /** Gradients of each sequence's average log-prob, in place of an objective. */
  readonly dAverages?: ArrayLike<number>;
  readonly dropoutSeed?: number;
  readonly backward?: boolean;
}

/** Runs micro-batches of one step, forward, objective and backward in one program, as training does. */
export async function trainingStep(
  gpu: Gpu,
  { decoder, trained }: { readonly decoder: Decoder; readonly trained: TrainedParameters },
  groups: readonly (readonly EncodedGroup[])[],
  { options = {}, method = SIMPO, dAverages, dropoutSeed = 1, backward = true }: StepOptions = {},
): Promise<Step> {
  const batches = groups.map((batch) => packFor(decoder, batch));
  const settings = { ...ADAMW, method };
  const objective = dAverages ? AS_UPLOADED : objectiveOf(method);
  const step = new TrainStep(gpu, { decoder, settings, objective }, budgetFor(batches), options);
  const { pass } = step;
  const all = batches.flatMap(({ sequence_info }) => sequence_info);
  const chosen = all.filter((_, i) => i % objective.responses === 0);
  const weights = {
    step_examples: all.length / objective.responses,
    step_chosen_tokens: chosen.reduce((sum, { num_tokens }) => sum + num_tokens, 0),
  };
  const results = {
    logprobs: new Float32Array(batches.reduce((sum, { rows }) => sum + rows, 0)),
    averages: new Float32Array(all.length),
    meanLogits: new Float32Array(all.length),
  };
  let [row, sequence] = [0, 0];
  for (const batch of batches) {
    const live = step.upload(batch, weights, dropoutSeed);
    if (dAverages) {
      const own = Array.from(dAverages).slice(sequence, sequence + batch.sequences);
      gpu.write(
        pass.coefficients,
        Float32Array.from(own, (value, i) => value / batch.sequence_info[i]!.num_tokens),
      );
    }
    (backward ? step.training : step.evaluation).run(live);
    const [logprobs, averages] = await gpu.read(pass.logprobs, pass.averages) as Float32Array[];
    results.logprobs.set(logprobs!.subarray(0, batch.rows), row);
    for (let s = 0; s < batch.sequences; s++) {
      results.averages[sequence + s] = averages![2 * s]!;
      results.meanLogits[sequence + s] = averages![2 * s + 1]!;
    }
    row += batch.rows;
    sequence += batch.sequences;
  }
  const metrics = dAverages ? {} : await step.metrics();
  const gradients = await readParameters(gpu, trained, "gradient");
  step.free();
  return { ...results, metrics, gradients };
}

/** Gradients or values by the names of weights in files, an adapter's as PEFT has them; the runs of one table joined. */
export async function readParameters(
  gpu: Gpu,
  trained: TrainedParameters,
  part: "value" | "gradient",
): Promise<Map<string, Float32Array>> {
  const parameters = [...trained.parameters.values()];
  const read = await gpu.read(...parameters.map((parameter) => parameter[part]!)) as Float32Array[];
  const joined = new Map<string, Float32Array>();
  parameters.forEach(({ name }, i) => {
    const whole = name.replace(/#\d+$/, "");
    const key = /lora_[AB]$/.test(whole) ? adapterName(`${whole}.weight`) : whole;
    joined.set(key, Float32Array.from([...(joined.get(key) ?? []), ...read[i]!]));
  });
  return joined;
}
