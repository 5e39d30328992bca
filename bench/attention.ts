import { type Gpu, Program } from "../src/gpu/mod.ts";
import { recordAttention, recordAttentionGrad } from "../src/gpu/ops/attention.ts";
import { fmaCeiling } from "./ceilings.ts";
import { type Contender, contest, programContender } from "./_contest.ts";
import { Peers } from "./_peers.ts";
import { type BenchRow, type Findings, median, medianRatio, reach, type Settings } from "./_rows.ts";

/** One causal sequence, as peers can do it: [name, tokens, heads, head_dim]. */
const SHAPES: readonly [string, number, number, number][] = [
  ["SmolLM2-135M, 256 tokens", 256, 9, 64],
  ["SmolLM2-135M, 512 tokens", 512, 9, 64],
  ["Llama-3.2-3B's head size, 8 heads, 512 tokens", 512, 8, 128],
];

interface AttentionCase extends Contender {
  readonly flops: number;
  free(): void;
}

/** Attention of one sequence without grouped heads; FLOPs count the pairs that the mask leaves. */
function prepareAttention(
  gpu: Gpu,
  tokens: number,
  heads: number,
  head_dim: number,
  gradients: boolean,
): AttentionCase {
  const each = Array.from({ length: tokens }, (_, token) => token);
  const width = heads * head_dim;
  const made = (name: string) => gpu.tensor(name, [tokens, width]);
  const noise = (name: string) =>
    gpu.upload(
      name,
      [tokens, width],
      Float32Array.from({ length: tokens * width }, () => Math.random() - 0.5),
    );
  const tensors = {
    q: noise("q"),
    k: noise("k"),
    v: noise("v"),
    o: made("o"),
    lse: gpu.tensor("lse", [tokens, heads]),
    spans: gpu.upload("spans", [tokens, 4], Uint32Array.from(each.flatMap(() => [0, 0, 0, tokens]))),
    positions: gpu.upload("positions", [tokens], Uint32Array.from(each)),
  };
  const grads = {
    d_o: noise("d_o"),
    delta: gpu.tensor("delta", [tokens, heads]),
    d_q: made("d_q"),
    d_k: made("d_k"),
    d_v: made("d_v"),
  };
  const program = new Program<{ tokens: number }>(gpu, "attention");
  const shape = { heads, kv_heads: heads, head_dim, scale: 1 / Math.sqrt(head_dim) };
  recordAttention(program, tensors, shape);
  if (gradients) recordAttentionGrad(program, { ...tensors, ...grads }, shape);
  const forward = 4 * width * tokens * (tokens + 1) / 2;
  return {
    ...programContender(gpu, program, { tokens }),
    flops: gradients ? 3 * forward : forward,
    free: () => {
      program.free();
      gpu.free(...Object.values(tensors), ...Object.values(grads));
    },
  };
}

/** Attention, forward and with its gradients, beside the peers; on a GPU beside its ceiling. */
export async function benchAttention(gpu: Gpu, settings: Settings): Promise<Findings> {
  const rows: BenchRow[] = [];
  const how = `median of ${settings.rounds} alternating rounds`;
  const peers = new Peers();
  try {
    for (const [name, tokens, heads, head_dim] of settings.extent === "quick" ? SHAPES.slice(0, 1) : SHAPES) {
      for (const gradients of [false, true]) {
        const worker = prepareAttention(gpu, tokens, heads, head_dim, gradients);
        const theirs = await peers.contenders({ kind: "attention", tokens, heads, head_dim, gradients });
        const times = await contest<string>(settings, { worker, ...theirs });
        worker.free();
        for (const [by, list] of Object.entries(times)) {
          rows.push({
            name: `attention ${gradients ? "forward and backward" : "forward"}, ${name}, by ${by}`,
            value: worker.flops / median(list) / 1e6,
            unit: "GFLOP/s",
            detail: `one causal sequence, the pairs under the mask counted; ${how}`,
          });
        }
      }
    }
  } finally {
    await peers.stop();
  }
  if (gpu.software) return { rows };
  for (const head_dim of [64, 128]) {
    const attention = prepareAttention(gpu, 2048, 2048 / head_dim, head_dim, true);
    const ceiling = fmaCeiling(gpu);
    const times = await contest(settings, { attention, ceiling });
    const share = medianRatio(times.ceiling, times.attention) * attention.flops / ceiling.work;
    rows.push(reach(`attention ${head_dim}`, share, `${2048 / head_dim} heads, one causal sequence; ${how}`));
    attention.free();
    ceiling.free();
  }
  return { rows };
}
