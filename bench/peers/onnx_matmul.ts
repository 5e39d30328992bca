/**
 * onnxruntime-web's WebGPU provider as a peer of `bench/matmul.ts`, in a process and with packages of its own. For every
 * line "m n k repeats" on stdin it multiplies matrices that stay on the GPU and answers with one JSON line: the milliseconds
 * of one product, and the largest error against float64 among some elements.
 */
/** The part of onnxruntime-web that is used here. */
interface OnnxRuntime {
  readonly env: {
    logLevel: string;
    readonly wasm: { numThreads: number };
    readonly webgpu: { device: Promise<GPUDevice> };
  };
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<OnnxSession> };
  readonly Tensor: { fromGpuBuffer(buffer: GPUBuffer, options: object): OnnxTensor };
}
interface OnnxSession {
  run(feeds: Record<string, OnnxTensor>): Promise<Record<string, OnnxTensor>>;
}
interface OnnxTensor {
  getData(): Promise<Float32Array>;
  dispose(): void;
}

// Not written into the import, since only this folder's deno.json knows the package: the worker's own checks install none.
const runtime: string = "onnxruntime-web/webgpu";
const ort = await import(runtime) as OnnxRuntime;

/** A session with its operands, made at the first use of a shape. */
interface Product {
  readonly run: () => Promise<OnnxTensor>;
  readonly errorOf: (c: Float32Array) => number;
}

const products = new Map<string, Promise<Product>>();
ort.env.logLevel = "error";
ort.env.wasm.numThreads = 1;

for await (const line of lines(Deno.stdin.readable)) {
  const [m, n, k, repeats] = line.split(" ").map(Number) as [number, number, number, number];
  const key = `${m} ${n} ${k}`;
  const first = !products.has(key);
  if (first) products.set(key, makeProduct(m, n, k));
  const { run, errorOf } = await products.get(key)!;
  let error: number | undefined;
  if (first) {
    const c = await run();
    error = errorOf(await c.getData());
    c.dispose();
  }
  const device = await ort.env.webgpu.device;
  await device.queue.onSubmittedWorkDone();
  const start = performance.now();
  for (let i = 0; i < repeats; i++) (await run()).dispose();
  await device.queue.onSubmittedWorkDone();
  console.log(JSON.stringify({ ms: (performance.now() - start) / repeats, error }));
}

async function makeProduct(m: number, n: number, k: number): Promise<Product> {
  const session = await ort.InferenceSession.create(matmulModel(m, n, k), {
    executionProviders: ["webgpu"],
    preferredOutputLocation: "gpu-buffer",
  });
  const a = Float32Array.from({ length: m * k }, () => Math.random() - 0.5);
  const b = Float32Array.from({ length: k * n }, () => Math.random() - 0.5);
  const device = await ort.env.webgpu.device;
  const upload = (data: Float32Array<ArrayBuffer>, dims: number[]) => {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const gpuBuffer = device.createBuffer({ size: data.byteLength, usage });
    device.queue.writeBuffer(gpuBuffer, 0, data);
    return ort.Tensor.fromGpuBuffer(gpuBuffer, { dataType: "float32", dims });
  };
  const feeds = { a: upload(a, [m, k]), b: upload(b, [k, n]) };
  return {
    run: async () => (await session.run(feeds)).c!,
    errorOf: (c) => {
      let worst = 0;
      for (let s = 0; s < 64; s++) {
        const [row, column] = [Math.floor(Math.random() * m), Math.floor(Math.random() * n)];
        let sum = 0;
        for (let i = 0; i < k; i++) sum += a[row * k + i]! * b[i * n + column]!;
        worst = Math.max(worst, Math.abs(sum - c[row * n + column]!));
      }
      return worst;
    },
  };
}

/** The ONNX file of one MatMul node with fixed shapes, in protobuf's wire format. */
function matmulModel(m: number, n: number, k: number): Uint8Array {
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value & 127) | 128, ...varint(Math.floor(value / 128))];
  const int = (field: number, value: number) => [field << 3, ...varint(value)];
  const bytes = (field: number, value: number[]) => [field << 3 | 2, ...varint(value.length), ...value];
  const text = (field: number, value: string) => bytes(field, [...new TextEncoder().encode(value)]);
  const tensor = (field: number, name: string, dims: number[]) => {
    const shape = dims.flatMap((dim) => bytes(1, int(1, dim)));
    return bytes(field, [...text(1, name), ...bytes(2, bytes(1, [...int(1, 1), ...bytes(2, shape)]))]);
  };
  const node = [...text(1, "a"), ...text(1, "b"), ...text(2, "c"), ...text(4, "MatMul")];
  const graph = [
    ...bytes(1, node),
    ...text(2, "matmul"),
    ...tensor(11, "a", [m, k]),
    ...tensor(11, "b", [k, n]),
    ...tensor(12, "c", [m, n]),
  ];
  return Uint8Array.from([...int(1, 8), ...bytes(7, graph), ...bytes(8, [...text(1, ""), ...int(2, 13)])]);
}

async function* lines(readable: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of readable.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}
