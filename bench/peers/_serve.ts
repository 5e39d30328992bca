/**
 * What a peer of the benchmarks is asked, and how it answers: each runs in a process and with packages of its own, reads
 * one {@link Question} a line on stdin and writes one {@link Answer} a line on stdout.
 *
 * @module
 */

/** What is timed; operands and results stay on the device. */
export type Work =
  | {
    readonly kind: "matmul";
    readonly m: number;
    readonly n: number;
    readonly k: number;
  }
  | {
    /** Causal self-attention of one sequence; with `gradients` the loss Σ o · d_o and its gradients of q, k, v. */
    readonly kind: "attention";
    readonly tokens: number;
    readonly heads: number;
    readonly head_dim: number;
    readonly gradients: boolean;
  };

export interface Question {
  readonly work: Work;
  /** How often it is done between two waits for the device. */
  readonly repeats: number;
}

export type Answer =
  | {
    /** Of one repeat. */
    readonly milliseconds: number;
    /** The first time: largest error against float64 among some results, relative to the largest of them. */
    readonly error?: number;
  }
  | {
    /** Why the peer cannot do it. */
    readonly refused: string;
  };

/** A piece of work with its operands on the device. */
export interface Prepared {
  /** Queues it once. */
  run(): Promise<void> | void;
  /** Waits until all that was queued is done. */
  settle(): Promise<void>;
  /** Does it once: the product or attention's output; with gradients that of q. Layouts as {@link operands} has them. */
  result(): Promise<Float32Array>;
}

/**
 * Answers questions until stdin ends, then ends the process, which a peer's own threads would keep alive.
 *
 * @param prepare throws where the peer cannot do the work
 */
export async function serve(
  prepare: (work: Work, inputs: Operands) => Promise<Prepared>,
): Promise<void> {
  const known = new Map<string, Prepared>();
  for await (const line of lines(Deno.stdin.readable)) {
    const { work, repeats } = JSON.parse(line) as Question;
    console.log(JSON.stringify(await answer(work, repeats)));
  }
  Deno.exit(0);

  async function answer(work: Work, repeats: number): Promise<Answer> {
    try {
      const key = JSON.stringify(work);
      let error: number | undefined;
      let prepared = known.get(key);
      if (!prepared) {
        const inputs = operands(work);
        prepared = await prepare(work, inputs);
        known.set(key, prepared);
        error = errorOf(work, inputs, await prepared.result());
      }
      await prepared.settle();
      const start = performance.now();
      for (let i = 0; i < repeats; i++) await prepared.run();
      await prepared.settle();
      const milliseconds = (performance.now() - start) / repeats;
      return { milliseconds, ...(error !== undefined && { error }) };
    } catch (error) {
      return {
        refused: error instanceof Error ? error.message : String(error),
      };
    }
  }
}

/** Matrices a [m, k] and b [k, n], or q, k, v and d_o [tokens, heads, head_dim]. */
export type Operands = Readonly<Record<string, Float32Array<ArrayBuffer>>>;

function operands(work: Work): Operands {
  const noise = (count: number) => Float32Array.from({ length: count }, () => Math.random() - 0.5);
  if (work.kind === "matmul") {
    return { a: noise(work.m * work.k), b: noise(work.k * work.n) };
  }
  const count = work.tokens * work.heads * work.head_dim;
  return {
    q: noise(count),
    k: noise(count),
    v: noise(count),
    d_o: noise(count),
  };
}

/** Largest error of some results, relative to the largest of them. */
function errorOf(work: Work, inputs: Operands, result: Float32Array): number {
  let [worst, largest] = [0, 0];
  const compare = (expected: number, at: number) => {
    worst = Math.max(worst, Math.abs(expected - result[at]!));
    largest = Math.max(largest, Math.abs(expected));
  };
  const any = (count: number) => Math.floor(Math.random() * count);
  for (let sample = 0; sample < 64; sample++) {
    if (work.kind === "matmul") {
      const { n, k } = work;
      const [row, column] = [any(work.m), any(n)];
      let sum = 0;
      for (let i = 0; i < k; i++) {
        sum += inputs.a![row * k + i]! * inputs.b![i * n + column]!;
      }
      compare(sum, row * n + column);
    } else {
      const [token, head] = [any(work.tokens), any(work.heads)];
      const row = work.gradients
        ? queryGradient(work, inputs, token, head)
        : attentionRow(work, inputs, token, head).o;
      row.forEach((value, i) => compare(value, (token * work.heads + head) * work.head_dim + i));
    }
  }
  return worst / largest;
}

type Attention = Extract<Work, { kind: "attention" }>;

/** One token's and head's probabilities and output. */
function attentionRow(
  { heads, head_dim }: Attention,
  inputs: Operands,
  token: number,
  head: number,
) {
  const at = (j: number, i: number) => (j * heads + head) * head_dim + i;
  const dot = (
    x: Float32Array,
    y: Float32Array,
    xToken: number,
    yToken: number,
  ) => {
    let sum = 0;
    for (let i = 0; i < head_dim; i++) {
      sum += x[at(xToken, i)]! * y[at(yToken, i)]!;
    }
    return sum;
  };
  const tokens = Array.from({ length: token + 1 }, (_, j) => j);
  const weights = tokens.map((j) => Math.exp(dot(inputs.q!, inputs.k!, token, j) / Math.sqrt(head_dim)));
  const total = weights.reduce((sum, w) => sum + w, 0);
  const p = weights.map((w) => w / total);
  const o = Array.from(
    { length: head_dim },
    (_, i) => tokens.reduce((sum, j) => sum + p[j]! * inputs.v![at(j, i)]!, 0),
  );
  return { p, o, dot, at, tokens };
}

function queryGradient(
  work: Attention,
  inputs: Operands,
  token: number,
  head: number,
): number[] {
  const { p, o, dot, at, tokens } = attentionRow(work, inputs, token, head);
  const delta = o.reduce(
    (sum, value, i) => sum + value * inputs.d_o![at(token, i)]!,
    0,
  );
  const d_s = tokens.map((j) => p[j]! * (dot(inputs.d_o!, inputs.v!, token, j) - delta));
  return Array.from(
    { length: work.head_dim },
    (_, i) =>
      tokens.reduce((sum, j) => sum + d_s[j]! * inputs.k![at(j, i)]!, 0) /
      Math.sqrt(work.head_dim),
  );
}

async function* lines(
  readable: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<string> {
  let rest = "";
  for await (const text of readable.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}
