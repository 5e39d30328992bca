/** jax-js as a peer: `jax.ts webgpu` or `jax.ts wasm`. */
import { type Operands, type Prepared, serve, type Work } from "./_serve.ts";

/** The part of jax-js that is used here. Its functions own their arguments: `ref` keeps an array. */
interface Jax {
  init(device: string): Promise<string[]>;
  defaultDevice(device: string): void;
  blockUntilReady(arrays: readonly JaxArray[]): Promise<unknown>;
  // deno-lint-ignore no-explicit-any
  jit<F extends (...args: any[]) => unknown>(f: F): F;
  vjp(
    f: (...args: JaxArray[]) => JaxArray,
    primals: readonly JaxArray[],
  ): [JaxArray, (cotangent: JaxArray) => JaxArray[]];
  readonly numpy: {
    array(data: Float32Array): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
  };
  readonly nn: {
    dotProductAttention(
      q: JaxArray,
      k: JaxArray,
      v: JaxArray,
      options: { isCausal: boolean },
    ): JaxArray;
  };
}
interface JaxArray {
  readonly ref: JaxArray;
  reshape(shape: number[]): JaxArray;
  data(): Promise<Float32Array>;
  dispose(): void;
}

// Not written into the import, since only this folder's deno.json knows the package: the worker's own checks install none.
const name: string = "@jax-js/jax";
const jax = await import(name) as unknown as Jax;
const device = Deno.args[0]!;
if (!(await jax.init(device)).includes(device)) {
  throw new Error(`jax-js finds no ${device}.`);
}
jax.defaultDevice(device);
await serve(prepare);

async function prepare(work: Work, inputs: Operands): Promise<Prepared> {
  const { numpy, nn } = jax;
  const upload = (data: Float32Array, shape: number[]) => numpy.array(data).reshape(shape);
  let compute: () => JaxArray[];
  if (work.kind === "matmul") {
    const [a, b] = [
      upload(inputs.a!, [work.m, work.k]),
      upload(inputs.b!, [work.k, work.n]),
    ];
    await jax.blockUntilReady([a.ref, b.ref]);
    const product = jax.jit((a: JaxArray, b: JaxArray) => numpy.matmul(a, b));
    compute = () => [product(a.ref, b.ref)];
  } else {
    const shape = [work.tokens, work.heads, work.head_dim];
    const [q, k, v, d_o] = ["q", "k", "v", "d_o"].map((name) => upload(inputs[name]!, shape)) as [
      JaxArray,
      JaxArray,
      JaxArray,
      JaxArray,
    ];
    await jax.blockUntilReady([q.ref, k.ref, v.ref, d_o.ref]);
    const attention = (q: JaxArray, k: JaxArray, v: JaxArray) =>
      nn.dotProductAttention(q, k, v, { isCausal: true });
    const forward = jax.jit(attention);
    const both = jax.jit(
      (q: JaxArray, k: JaxArray, v: JaxArray, d_o: JaxArray) => {
        const [o, pullback] = jax.vjp(attention, [q, k, v]);
        return [...pullback(d_o), o];
      },
    );
    compute = work.gradients
      ? () => both(q.ref, k.ref, v.ref, d_o.ref)
      : () => [forward(q.ref, k.ref, v.ref)];
  }
  // An array that is let go of before it is computed never is: all are kept until the wait.
  const results: JaxArray[] = [];
  return {
    run: () => {
      results.push(...compute());
    },
    settle: async () => {
      await jax.blockUntilReady(results.map((array) => array.ref));
      results.splice(0).forEach((array) => array.dispose());
    },
    result: async () => {
      const [first, ...others] = compute();
      others.forEach((array) => array.dispose());
      return await first!.data();
    },
  };
}
