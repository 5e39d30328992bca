import { Gpu, Program } from "../src/gpu/mod.ts";
import { recordMatmul } from "../src/gpu/ops/matmul.ts";
import type { MatmulLayout as Layout } from "../src/gpu/ops/matmul_tiles.ts";
import { fromF32 } from "../src/model/dtype.ts";
import { quantizeInt8 } from "../src/model/int8.ts";
import { fmaCeiling } from "./ceilings.ts";
import { type Contender, contest, fastest, programContender } from "./_contest.ts";
import { onWebAssembly, onWebGpu, Peers } from "./_peers.ts";
import { type BenchRow, type Findings, median, medianRatio, reach, type Settings } from "./_rows.ts";

/** Shapes of a training step: [name, m, n, k, layouts]. */
const SHAPES: readonly [string, number, number, number, readonly Layout[]][] = [
  ["512^3", 512, 512, 512, ["NT", "NN", "TN"]],
  ["1024x256x256", 1024, 256, 256, ["NT", "NN"]],
  ["1024x704x256", 1024, 704, 256, ["NT"]],
  ["1024x256x704", 1024, 256, 704, ["NT", "NN"]],
  ["weight gradient 704x256x1024", 704, 256, 1024, ["TN"]],
  ["head chunk 512x2048x256", 512, 2048, 256, ["NT"]],
  ["head chunk 512x256x2048", 512, 256, 2048, ["NN"]],
  ["LoRA down 1024x16x256", 1024, 16, 256, ["NT", "NN"]],
  ["LoRA up 1024x256x16", 1024, 256, 16, ["NT", "NN"]],
  ["LoRA gradient 16x256x1024", 16, 256, 1024, ["TN"]],
  ["LoRA gradient 256x16x1024", 256, 16, 1024, ["TN"]],
];

/** Linear layers of models in use, [name, tokens, outputs, inputs]. */
const MODEL_SHAPES: readonly [string, number, number, number][] = [
  ["Qwen2.5-0.5B gate_proj, 256 tokens", 256, 4864, 896],
  ["Llama-3.2-1B q_proj, 256 tokens", 256, 2048, 2048],
];

/** A product with its operands. */
export interface Product extends Contender {
  readonly flops: number;
  free(): void;
}

/** Types that a weight may have on the device. */
const STORED = {
  f32: (values: Float32Array) => values,
  bf16: (values: Float32Array) => fromF32(values, "BF16"),
  int8: (values: Float32Array) => quantizeInt8(fromF32(values, "F32"), "F32"),
} as const;

/** @param storage of B, which is a linear layer's weight */
export function prepareProduct(
  gpu: Gpu,
  layout: Layout,
  m: number,
  n: number,
  k: number,
  storage: keyof typeof STORED = "f32",
): Product {
  const noise = (shape: [number, number], storage: keyof typeof STORED) => {
    const tensor = gpu.tensor("operand", shape, storage);
    const values = Float32Array.from({ length: shape[0] * shape[1] }, () => Math.random() - 0.5);
    gpu.write(tensor, STORED[storage](values));
    return tensor;
  };
  const a = noise(layout === "TN" ? [k, m] : [m, k], "f32");
  const b = noise(layout === "NT" ? [n, k] : [k, n], storage);
  const c = gpu.tensor("result", [m, n]);
  const program = new Program<Record<string, never>>(gpu, "matmul");
  recordMatmul(program, { a, b, c }, { layout, size: () => ({ m, k }) });
  return {
    ...programContender(gpu, program, {}),
    flops: 2 * m * n * k,
    free: () => {
      program.free();
      gpu.free(a, b, c);
    },
  };
}

/** Products of one size in the three layouts, by which whole steps are judged. */
export function referenceProducts(gpu: Gpu): Record<Layout, Product> {
  const size = referenceSize(gpu);
  const product = (layout: Layout) => prepareProduct(gpu, layout, size, size, size);
  return { NT: product("NT"), NN: product("NN"), TN: product("TN") };
}

/** Large enough to keep the device busy. */
export function referenceSize(gpu: Gpu): number {
  return gpu.software ? 1024 : 4096;
}

/** GFLOP/s of the matrix products: beside the device's ceiling, beside the peers, and at the shapes of a step. */
export async function benchMatmul(gpu: Gpu, settings: Settings): Promise<Findings> {
  const rows: BenchRow[] = [];
  const size = referenceSize(gpu);
  const flops = 2 * size ** 3;
  const how = `median of ${settings.rounds} alternating rounds`;
  const add = (name: string, flops: number, times: readonly number[], detail: string) =>
    rows.push({ name: `matmul ${name}`, value: flops / median(times) / 1e6, unit: "GFLOP/s", detail });
  const peers = new Peers();
  const plain = gpu.software ? await Gpu.open({ device: "auto", policy: { matmul: "direct" } }) : null;
  try {
    const ours = referenceProducts(gpu);
    const ceiling = fmaCeiling(gpu);
    const without = plain && prepareProduct(plain, "NN", size, size, size);
    const theirs = await peers.contenders({ kind: "matmul", m: size, n: size, k: size });
    const times = await contest<string>(settings, {
      ...ours,
      ceiling,
      ...(without && { without }),
      ...theirs,
    });
    for (const layout of ["NT", "NN", "TN"] as const) {
      add(`${size}^3 ${layout}`, flops, times[layout]!, `${gpu.policy.matmul} design; ${how}`);
    }
    if (without) add(`${size}^3 NN without subgroups`, flops, times.without!, `direct design; ${how}`);
    for (const name of Object.keys(theirs)) {
      add(`${size}^3 by ${name}`, flops, times[name]!, `operands and result on the device; ${how}`);
    }
    const over = (id: string, ours: string, among: readonly string[]) => {
      const best = fastest(times, among);
      if (best) {
        rows.push(reach(id, medianRatio(times[best]!, times[ours]!), `NN; the best is ${best}; ${how}`));
      }
    };
    const webgpu = Object.keys(theirs).filter(onWebGpu);
    if (gpu.software) {
      over("matmul over WebGPU peers", "NN", webgpu);
      over("matmul over WebAssembly peers", "NN", Object.keys(theirs).filter(onWebAssembly));
      if (without) over("matmul without subgroups", "without", webgpu);
    } else {
      const best = fastest(times, Object.keys(ours))!;
      const share = medianRatio(times.ceiling!, times[best]!) * flops / ceiling.work;
      rows.push(reach("matmul of the ceiling", share, `${best}; ${how}`));
      over("matmul over peers on a GPU", "NN", webgpu);
    }
    for (const product of [...Object.values(ours), ceiling, without]) product?.free();

    if (settings.extent !== "quick") {
      for (const [name, m, n, k] of MODEL_SHAPES) {
        const product = prepareProduct(gpu, "NN", m, n, k);
        const theirs = await peers.contenders({ kind: "matmul", m, n, k });
        const times = await contest<string>(settings, { worker: product, ...theirs });
        for (const [by, list] of Object.entries(times)) add(`${name}, by ${by}`, product.flops, list, how);
        product.free();
      }
    }
  } finally {
    await peers.stop();
    plain?.close();
  }
  if (settings.extent === "quick") return { rows };
  for (const [name, m, n, k, layouts] of SHAPES) {
    for (const layout of layouts) {
      const product = prepareProduct(gpu, layout, m, n, k);
      const times = await contest(settings, { product });
      add(`${name} ${layout}`, product.flops, times.product, `median of ${settings.rounds}`);
      product.free();
    }
  }
  return { rows };
}
