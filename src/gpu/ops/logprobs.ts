import averageSource from "../../../shaders/average_logprobs.wgsl" with { type: "text" };
import logsumexpSource from "../../../shaders/logsumexp.wgsl" with { type: "text" };
import logsumexpGradSource from "../../../shaders/logsumexp_grad.wgsl" with { type: "text" };
import softCapPrelude from "../../../shaders/lib/soft_cap.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import type { Tensors } from "../tensor.ts";
import { recordRows } from "./launch.ts";

type Rows = Live & { readonly rows: number };

/** One run of the vocabulary: ids first_id .. first_id + columns - 1 in the leading columns of `logits`. */
export interface VocabularyChunk {
  readonly first_id: number;
  readonly columns: number;
}

/** A run of the vocabulary, and how its logits count. */
export interface LogitOptions extends VocabularyChunk {
  /** Logits l become softcap * tanh(l / softcap) before anything else (Gemma 2); null or absent: they stay as they are. */
  readonly softcap?: number | null;
}

/**
 * Takes one chunk of logits [rows, stride] into the running state [rows, 4]; chunks come in order, the one of id 0 first.
 *
 * @param tensors `best`, u32 [rows], where given: the id of the row's largest logit, the smallest id of equal ones;
 * `collisions` [rows], where given: what {@link recordAverageLogprobs} takes
 */
export function recordLogsumexp<L extends Rows>(
  program: Program<L>,
  tensors: Tensors<"logits" | "targets" | "state"> & Partial<Tensors<"best" | "collisions">>,
  { first_id, columns, softcap = null }: LogitOptions,
): void {
  const stride = tensors.logits.shape[1]!;
  const constants = {
    SOFTCAP: softcap === null ? 0 : 1,
    BEST: tensors.best ? 1 : 0,
    COLLISIONS: tensors.collisions ? 1 : 0,
  };
  const kernel = { name: "logsumexp", source: logsumexpSource, preludes: [softCapPrelude], constants };
  const params = { stride, first_id, columns, softcap: softcap ?? 0 };
  recordRows(program, kernel, { ...tensors }, { rows: ({ rows }) => rows }, params);
}

/** Replaces one chunk of logits by the loss's gradient with respect to them. */
export function recordLogsumexpGrad<L extends Rows>(
  program: Program<L>,
  tensors: Tensors<"logits" | "targets" | "state" | "row_sequences" | "coefficients">,
  { first_id, columns, softcap = null }: LogitOptions,
): void {
  const stride = tensors.logits.shape[1]!;
  const constants = { SOFTCAP: softcap === null ? 0 : 1 };
  const kernel = {
    name: "logsumexp_grad",
    source: logsumexpGradSource,
    preludes: [softCapPrelude],
    constants,
  };
  const params = { stride, first_id, columns, softcap: softcap ?? 0 };
  recordRows(program, kernel, tensors, { rows: ({ rows }) => rows }, params);
}

/**
 * Per-token log-probs [rows] and, per sequence, the mean log-prob and mean logit [sequences, 2].
 *
 * @param tensors `collisions` [rows], where given, becomes log sum_v p_v^2 of each row's distribution p
 */
export function recordAverageLogprobs<L extends Live & { readonly sequences: number }>(
  program: Program<L>,
  tensors: Tensors<"state" | "sequence_rows" | "logprobs" | "averages"> & Partial<Tensors<"collisions">>,
  { vocabulary }: { readonly vocabulary: number },
): void {
  const constants = { COLLISIONS: tensors.collisions ? 1 : 0 };
  program.dispatch(
    defineKernel({ name: "average_logprobs", source: averageSource, constants }),
    { ...tensors },
    ({ sequences }) => ({ params: { sequences, vocabulary }, invocations: sequences }),
  );
}
