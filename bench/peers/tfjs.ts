/** TensorFlow.js as a peer: `tfjs.ts webgpu` or `tfjs.ts wasm`. It has no attention of its own: products and a softmax. */
import { type Operands, type Prepared, serve, type Work } from "./_serve.ts";

/** The part of TensorFlow.js that is used here. */
interface TensorFlow {
  setBackend(name: string): Promise<boolean>;
  tensor(data: Float32Array, shape: number[]): Tensor;
  matMul(
    a: Tensor,
    b: Tensor,
    transposeA?: boolean,
    transposeB?: boolean,
  ): Tensor;
  softmax(x: Tensor): Tensor;
  transpose(x: Tensor, axes: number[]): Tensor;
  add(a: Tensor, b: Tensor): Tensor;
  mul(a: Tensor, b: Tensor | number): Tensor;
  sum(x: Tensor): Tensor;
  grads(f: (...args: Tensor[]) => Tensor): (args: Tensor[]) => Tensor[];
  tidy<T>(f: () => T): T;
  backend(): { readonly device?: GPUDevice };
}
interface Tensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}

const backend = Deno.args[0]!;
// Not written into the imports, since only this folder's deno.json knows the packages: the worker's own checks install none.
const [name, backendName]: string[] = [
  "@tensorflow/tfjs",
  `@tensorflow/tfjs-backend-${backend}`,
];
const tf = await import(name!) as unknown as TensorFlow;
await import(backendName!);
if (!await tf.setBackend(backend)) {
  throw new Error(`TensorFlow.js finds no ${backend}.`);
}
await serve((work, inputs) => Promise.resolve(prepare(work, inputs)));

function prepare(work: Work, inputs: Operands): Prepared {
  let compute: () => Tensor[];
  if (work.kind === "matmul") {
    const a = tf.tensor(inputs.a!, [work.m, work.k]);
    const b = tf.tensor(inputs.b!, [work.k, work.n]);
    compute = () => [tf.matMul(a, b)];
  } else {
    const { tokens, heads, head_dim } = work;
    const byHead = (x: Tensor) => tf.transpose(x, [1, 0, 2]);
    const upload = (name: string) => tf.tensor(inputs[name]!, [tokens, heads, head_dim]);
    const [q, k, v, d_o] = [
      upload("q"),
      upload("k"),
      upload("v"),
      upload("d_o"),
    ];
    const mask = tf.tensor(
      Float32Array.from(
        { length: tokens * tokens },
        (_, at) => at % tokens > Math.floor(at / tokens) ? -1e9 : 0,
      ),
      [1, tokens, tokens],
    );
    const attention = (q: Tensor, k: Tensor, v: Tensor) => {
      const scores = tf.mul(
        tf.matMul(byHead(q), byHead(k), false, true),
        1 / Math.sqrt(head_dim),
      );
      return byHead(tf.matMul(tf.softmax(tf.add(scores, mask)), byHead(v)));
    };
    const gradients = tf.grads((q, k, v) => tf.sum(tf.mul(attention(q!, k!, v!), d_o)));
    compute = work.gradients ? () => gradients([q, k, v]) : () => [attention(q, k, v)];
  }
  let last: Tensor[] = [];
  const step = () => {
    for (const tensor of last) tensor.dispose();
    last = tf.tidy(compute);
  };
  return {
    run: step,
    // a result of a few MiB costs less to read than a wait takes; the WebAssembly backend computes at once
    settle: async () => {
      const { device } = tf.backend();
      if (device) await last[0]?.data();
    },
    result: async () => {
      step();
      return await last[0]!.data();
    },
  };
}
