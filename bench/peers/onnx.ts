/**
 * onnxruntime-web's WebGPU provider as a peer. It has no gradients; attention is the graph that exporters write: products,
 * a mask and a softmax.
 */
import { type Operands, type Prepared, serve, type Work } from "./_serve.ts";

/** The part of onnxruntime-web that is used here. */
interface OnnxRuntime {
  readonly env: {
    logLevel: string;
    readonly wasm: { numThreads: number };
    readonly webgpu: { device: Promise<GPUDevice> };
  };
  readonly InferenceSession: {
    create(model: Uint8Array, options: object): Promise<OnnxSession>;
  };
  readonly Tensor: {
    fromGpuBuffer(buffer: GPUBuffer, options: object): OnnxTensor;
  };
}
interface OnnxSession {
  run(feeds: Record<string, OnnxTensor>): Promise<Record<string, OnnxTensor>>;
}
interface OnnxTensor {
  getData(): Promise<Float32Array>;
  dispose(): void;
}

// Not written into the import, since only this folder's deno.json knows the package: the worker's own checks install none.
const name: string = "onnxruntime-web/webgpu";
const ort = await import(name) as OnnxRuntime;
ort.env.logLevel = "error";
ort.env.wasm.numThreads = 1;
await serve(prepare);

/** A named value with its shape. */
type Value = readonly [name: string, shape: readonly number[]];

interface Node {
  readonly type: string;
  readonly inputs: readonly string[];
  readonly output: string;
  /** A list of whole numbers each. */
  readonly attributes?: Readonly<Record<string, readonly number[]>>;
}

interface Graph {
  readonly inputs: readonly Value[];
  readonly nodes: readonly Node[];
  readonly output: Value;
}

async function prepare(work: Work, inputs: Operands): Promise<Prepared> {
  if (work.kind === "attention" && work.gradients) {
    throw new Error("onnxruntime-web makes no gradients.");
  }
  const graph = work.kind === "matmul" ? matmul(work) : attention(work);
  const session = await ort.InferenceSession.create(encode(graph), {
    executionProviders: ["webgpu"],
    preferredOutputLocation: "gpu-buffer",
  });
  const device = await ort.env.webgpu.device;
  const values: Operands = work.kind === "matmul" ? inputs : {
    ...inputs,
    scale: Float32Array.of(1 / Math.sqrt(work.head_dim)),
    mask: Float32Array.from(
      { length: work.tokens ** 2 },
      (_, at) => at % work.tokens > Math.floor(at / work.tokens) ? -1e9 : 0,
    ),
  };
  const feeds = Object.fromEntries(graph.inputs.map(([name, dims]) => {
    const data = values[name]!;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC |
      GPUBufferUsage.COPY_DST;
    const gpuBuffer = device.createBuffer({
      size: Math.max(16, data.byteLength),
      usage,
    });
    device.queue.writeBuffer(gpuBuffer, 0, data);
    return [
      name,
      ort.Tensor.fromGpuBuffer(gpuBuffer, { dataType: "float32", dims }),
    ];
  }));
  const compute = async () => (await session.run(feeds))[graph.output[0]]!;
  return {
    run: async () => (await compute()).dispose(),
    settle: async () => {
      await device.queue.onSubmittedWorkDone();
    },
    result: async () => {
      const result = await compute();
      const data = await result.getData();
      result.dispose();
      return data;
    },
  };
}

function matmul({ m, n, k }: Extract<Work, { kind: "matmul" }>): Graph {
  return {
    inputs: [["a", [m, k]], ["b", [k, n]]],
    nodes: [{ type: "MatMul", inputs: ["a", "b"], output: "c" }],
    output: ["c", [m, n]],
  };
}

function attention(
  { tokens, heads, head_dim }: Extract<Work, { kind: "attention" }>,
): Graph {
  const shape = [tokens, heads, head_dim];
  const transpose = (
    input: string,
    output: string,
    perm: readonly number[],
  ): Node => ({
    type: "Transpose",
    inputs: [input],
    output,
    attributes: { perm },
  });
  return {
    inputs: [["q", shape], ["k", shape], ["v", shape], ["scale", [1]], [
      "mask",
      [1, tokens, tokens],
    ]],
    nodes: [
      transpose("q", "q_heads", [1, 0, 2]),
      transpose("k", "k_heads", [1, 2, 0]),
      transpose("v", "v_heads", [1, 0, 2]),
      { type: "MatMul", inputs: ["q_heads", "k_heads"], output: "products" },
      { type: "Mul", inputs: ["products", "scale"], output: "scores" },
      { type: "Add", inputs: ["scores", "mask"], output: "masked" },
      { type: "Softmax", inputs: ["masked"], output: "weights" },
      { type: "MatMul", inputs: ["weights", "v_heads"], output: "o_heads" },
      transpose("o_heads", "o", [1, 0, 2]),
    ],
    output: ["o", shape],
  };
}

/** An ONNX file in protobuf's wire format: f32 values of fixed shapes, operators of opset 13. */
function encode({ inputs, nodes, output }: Graph): Uint8Array {
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value & 127) | 128, ...varint(Math.floor(value / 128))];
  const int = (field: number, value: number) => [...varint(field << 3), ...varint(value)];
  const bytes = (
    field: number,
    value: number[],
  ) => [field << 3 | 2, ...varint(value.length), ...value];
  const text = (field: number, value: string) => bytes(field, [...new TextEncoder().encode(value)]);
  const value = (field: number, [name, dims]: Value) => {
    const shape = dims.flatMap((dim) => bytes(1, int(1, dim)));
    return bytes(field, [
      ...text(1, name),
      ...bytes(2, bytes(1, [...int(1, 1), ...bytes(2, shape)])),
    ]);
  };
  const attribute = ([name, list]: [string, readonly number[]]) =>
    bytes(5, [
      ...text(1, name),
      ...list.flatMap((item) => int(8, item)),
      ...int(20, 7),
    ]);
  const graph = [
    ...nodes.flatMap(({ type, inputs, output, attributes = {} }) =>
      bytes(1, [
        ...inputs.flatMap((name) => text(1, name)),
        ...text(2, output),
        ...text(4, type),
        ...Object.entries(attributes).flatMap(attribute),
      ])
    ),
    ...text(2, "bench"),
    ...inputs.flatMap((input) => value(11, input)),
    ...value(12, output),
  ];
  return Uint8Array.from([
    ...int(1, 8),
    ...bytes(7, graph),
    ...bytes(8, [...text(1, ""), ...int(2, 13)]),
  ]);
}
