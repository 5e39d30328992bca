/** What the model's equations cost, whatever the kernels do, and what the recorded matrix products cost. */
import type { Dispatch } from "../src/gpu/mod.ts";
import { linearModules } from "../src/model/modules.ts";
import type { ModelConfig } from "../src/model/config.ts";
import type { PackedBatch } from "../src/preference/pack.ts";
import type { Trained } from "./_model.ts";

/**
 * FLOPs of a batch's forward, or of forward and backward, by the equations: 2 a multiply-add, nothing computed twice,
 * attention only between tokens that see each other, no gradient that nothing needs. Norms, activations, softmax and
 * the optimiser count nothing.
 */
export function modelFlops(
  config: ModelConfig,
  batch: Pick<PackedBatch, "tokens" | "rows" | "spans">,
  pass: "forward" | "forward and backward",
  trained: Trained,
): number {
  const { tokens, rows } = batch;
  const both = pass === "forward and backward";
  const modules = linearModules(config);
  const rank = typeof trained === "string" ? 0 : trained.lora;
  let flops = 0;
  for (const { layer, name, inputs, outputs } of modules) {
    const weight = 2 * tokens * inputs * outputs;
    const [down, up] = [2 * tokens * rank * inputs, 2 * tokens * rank * outputs];
    flops += weight + down + up;
    if (!both) continue;
    // with a frozen embedding, nothing asks for the gradient of the first block's input
    const toInput = trained === "weights" || layer > 0 || !["q_proj", "k_proj", "v_proj"].includes(name);
    flops += (toInput ? weight + down : 0) + (trained === "weights" ? weight : 0) + down + 2 * up;
  }
  const head = 2 * rows * config.hidden_size * config.vocab_size;
  flops += head * (!both ? 1 : trained === "weights" ? 3 : 2);
  const attention = 4 * visiblePairs(batch) * config.num_attention_heads * config.head_dim *
    config.num_hidden_layers;
  return flops + attention * (both ? 3 : 1);
}

/** Pairs of tokens of which one sees the other, or itself. */
function visiblePairs({ tokens, spans }: Pick<PackedBatch, "tokens" | "spans">): number {
  let pairs = 0;
  for (let i = 0; i < tokens; i++) pairs += spans[4 * i + 1]! - spans[4 * i]! + i - spans[4 * i + 2]! + 1;
  return pairs;
}

/** FLOPs of a dispatch that is a matrix product, else 0. */
export function matmulFlops({ kernel, params }: Dispatch): number {
  if (!kernel.startsWith("matmul_")) return 0;
  return 2 * params.m! * (params.n! - params.n_begin!) *
    (params.k_end! - params.k_begin! + (params.rank ?? 0));
}
