import { fileURLToPath } from "node:url";
import { Gpu, Program } from "../src/gpu/mod.ts";
import { type Matmul, recordMatmul } from "../src/gpu/ops/matmul.ts";
import { type BenchRow, median, medianRatio } from "./_rows.ts";
import peers from "./peers/deno.json" with { type: "json" };

type Layout = Matmul<Record<string, never>>["layout"];

const ROUNDS = 7;
/** Work of one timing, long enough that the 10 ms of waiting for the device do not count. */
const TIMED_MS = 250;
const PEER = `WebGPU provider of ${peers.imports["onnxruntime-web/webgpu"]}`;
const FLOPS_1024 = 2 * 1024 ** 3;

/** Shapes of a training step: [name, m, n, k, layouts]. */
const SHAPES: readonly [string, number, number, number, readonly Layout[]][] = [
  ["512^3", 512, 512, 512, ["NT", "NN", "TN"]],
  ["1024x256x256", 1024, 256, 256, ["NT", "NN"]],
  ["1024x704x256", 1024, 704, 256, ["NT"]],
  ["1024x256x704", 1024, 256, 704, ["NT", "NN"]],
  ["weight gradient 704x256x1024", 704, 256, 1024, ["TN"]],
  ["head chunk 512x2048x256", 512, 2048, 256, ["NT"]],
  ["head chunk 512x256x2048", 512, 256, 2048, ["NN"]],
  ["LoRA down 1024x8x256", 1024, 8, 256, ["NT", "NN"]],
  ["LoRA up 1024x256x8", 1024, 256, 8, ["NT", "NN"]],
  ["LoRA gradient 8x256x1024", 8, 256, 1024, ["TN"]],
  ["LoRA gradient 256x8x1024", 256, 8, 1024, ["TN"]],
];

/** GFLOP/s of the matrix products, and at 1024^3 the ratio to onnxruntime-web's WebGPU provider in alternating rounds. */
export async function benchMatmul(): Promise<BenchRow[]> {
  const gpu = await Gpu.open({ device: "auto" });
  const peer = OnnxPeer.start();
  const rows: BenchRow[] = [];
  const device = `${gpu.adapterInfo.description || gpu.adapterInfo.vendor}, ${gpu.matmul} design`;
  const add = (name: string, value: number, unit: string, detail: string, target?: BenchRow["target"]) =>
    rows.push({
      name: `matmul ${name}`,
      value: Math.round(value * 100) / 100,
      unit,
      detail,
      ...(target && { target }),
    });
  try {
    const large: Product[] = [];
    for (const layout of ["NT", "NN", "TN"] as const) {
      large.push(await Product.make(gpu, layout, 1024, 1024, 1024));
    }
    const theirs = await peer.make(1024, 1024, 1024);
    const peerTimes: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      for (const product of large) await product.time();
      if (theirs) peerTimes.push(await theirs());
    }
    const ours = `${device}; median of ${ROUNDS}`;
    for (const { layout, gigaflops } of large) add(`1024^3 ${layout}`, gigaflops, "GFLOP/s", ours);
    if (theirs) {
      const detail = `${PEER}, operands and result on the GPU, in alternating rounds; ${ours}`;
      add("1024^3 NN by onnxruntime-web", FLOPS_1024 / median(peerTimes) / 1e6, "GFLOP/s", detail);
      const ratio = medianRatio(peerTimes, large[1]!.times);
      add("1024^3 NN over onnxruntime-web", ratio, "times", detail, { at_least: 4 });
    }
    for (const product of large) product.free();
    for (const [name, m, n, k, layouts] of SHAPES) {
      for (const layout of layouts) {
        const product = await Product.make(gpu, layout, m, n, k);
        for (let round = 0; round < ROUNDS; round++) await product.time();
        add(`${name} ${layout}`, product.gigaflops, "GFLOP/s", ours);
        product.free();
      }
    }
  } finally {
    await peer.stop();
    gpu.close();
  }
  return rows;
}

/** One of our products with its operands; warmed up and calibrated when made. */
class Product {
  readonly times: number[] = [];
  #repeats = 1;

  private constructor(
    readonly gpu: Gpu,
    readonly layout: Layout,
    readonly flops: number,
    readonly program: Program<Record<string, never>>,
    readonly free: () => void,
  ) {}

  static async make(gpu: Gpu, layout: Layout, m: number, n: number, k: number): Promise<Product> {
    const noise = (shape: [number, number]) =>
      gpu.upload(
        "operand",
        shape,
        Float32Array.from({ length: shape[0] * shape[1] }, () => Math.random() - 0.5),
      );
    const a = noise(layout === "TN" ? [k, m] : [m, k]);
    const b = noise(layout === "NT" ? [n, k] : [k, n]);
    const c = gpu.tensor("result", [m, n]);
    const program = new Program<Record<string, never>>(gpu, "matmul");
    recordMatmul(gpu, program, { layout, a, b, c, size: () => ({ m, n, k }) });
    const product = new Product(gpu, layout, 2 * m * n * k, program, () => {
      program.free();
      gpu.free(a, b, c);
    });
    await product.time(); // compiles
    await product.time();
    product.#repeats = Math.max(1, Math.round(TIMED_MS / product.times[1]!));
    product.times.length = 0;
    return product;
  }

  /** Adds a time, in milliseconds a product. */
  async time(): Promise<void> {
    const start = performance.now();
    for (let i = 0; i < this.#repeats; i++) this.program.run({});
    await this.gpu.settle();
    this.times.push((performance.now() - start) / this.#repeats);
  }

  get gigaflops(): number {
    return this.flops / median(this.times) / 1e6;
  }
}

/** The process of `peers/onnx_matmul.ts`, which has packages of its own. */
class OnnxPeer {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  #rest = "";

  static start(): OnnxPeer {
    return new OnnxPeer();
  }

  private constructor() {
    const folder = fileURLToPath(new URL("./peers/", import.meta.url));
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-prompt",
        "--allow-read",
        "--allow-env",
        "--allow-sys",
        `--config=${folder}deno.json`,
        `${folder}onnx_matmul.ts`,
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#output = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** @returns a function that times one product in milliseconds, or null where the peer does not run here */
  async make(m: number, n: number, k: number): Promise<(() => Promise<number>) | null> {
    const first = await this.#ask(m, n, k, 1);
    if (first === null) return null;
    if (first.error === undefined || !(first.error < 1e-4 * k)) {
      throw new Error(`The peer's product is off by ${first.error}.`);
    }
    const repeats = Math.max(1, Math.round(TIMED_MS / first.ms));
    return async () => (await this.#ask(m, n, k, repeats))!.ms;
  }

  async #ask(...numbers: number[]): Promise<{ ms: number; error?: number } | null> {
    try {
      await this.#input.write(new TextEncoder().encode(numbers.join(" ") + "\n"));
    } catch {
      return null; // it ended at once: its packages are not installed, or it found no device
    }
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#output.read();
      if (done) return null;
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return JSON.parse(line);
  }

  async stop(): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.#output.cancel();
    await this.#child.status;
  }
}

if (import.meta.main) {
  for (const row of await benchMatmul()) console.log(JSON.stringify(row));
}
