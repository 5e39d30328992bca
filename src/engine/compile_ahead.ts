import { type Gpu, type Kernel, PaperDevice, Program } from "../gpu/mod.ts";
import { recordMatmul } from "../gpu/ops/matmul.ts";

/**
 * Compiles what takes longest of what most models' first score needs, a kernel after another, while nobody wants the
 * device. What goes wrong costs nothing but speed: a device in trouble tells those who need it.
 *
 * @param busy whether anybody has work for the device
 */
export async function compileAhead(gpu: Gpu, busy: () => boolean): Promise<void> {
  try {
    for (const kernel of productsOfWeights(gpu)) {
      await new Promise((resolve) => setTimeout(resolve, 0)); // lets messages in
      if (busy()) return;
      gpu.pipeline(kernel);
    }
  } catch {
    // whoever needs one compiles it
  }
}

/** The products of a Llama with bf16 weights in its forward: a projection, one that adds to the stream, gates. */
function productsOfWeights(gpu: Gpu): Kernel[] {
  const paper = new PaperDevice(Infinity);
  const [x, y] = ["x", "y"].map((name) => paper.tensor(name, [256, 1024]));
  const weight = paper.tensor("weight", [1024, 1024], "bf16");
  const program = new Program(gpu, "compiled ahead");
  const tensors = { a: x!, b: weight, c: y! };
  const product = { layout: "NT", size: () => ({ m: 256, k: 1024 }) } as const;
  recordMatmul(program, tensors, product);
  recordMatmul(program, tensors, { ...product, accumulate: true });
  recordMatmul(program, tensors, { ...product, gate: "silu" });
  return program.kernels;
}
