import type { Gpu, TimedDispatch } from "../src/gpu/mod.ts";
import { matmulFlops } from "./_flops.ts";
import { type Findings, median, type Settings } from "./_rows.ts";
import { STEPS } from "./_workloads.ts";

/**
 * Where the time of a training step and of a scoring batch goes: a Markdown table each, a line a kernel, by timestamps
 * around every dispatch.
 */
export async function profileSteps(gpu: Gpu, { rounds }: Settings): Promise<Findings> {
  const tables: string[] = [];
  for (const [name, make] of Object.entries(STEPS)) {
    const { step, free } = await make(gpu);
    await step.run(); // compiles
    const walls: number[] = [];
    const runs: TimedDispatch[][] = [];
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      await step.run();
      walls.push(performance.now() - start);
      runs.push(await step.profile());
    }
    const wall = median(walls);
    tables.push([
      `### ${name}`,
      "",
      `${step.tokens} tokens, ${step.rows} of them scored, ${runs[0]!.length} dispatches; ${
        wall.toFixed(0)
      } ms without` +
      ` timestamps; ${rate(step.model_flops, wall)} by the model's equations; median of ${rounds}`,
      "",
      "| kernel | dispatches | ms | share | GFLOP/s |",
      "|---|---:|---:|---:|---:|",
      ...table(runs),
    ].join("\n"));
    free();
  }
  return { rows: [], text: tables.join("\n\n") };
}

/** One line a kernel (a matrix product: kernel and shape), the slowest first. */
function table(runs: readonly TimedDispatch[][]): string[] {
  const dispatches = runs[0]!.map((dispatch, i) => ({
    ...dispatch,
    milliseconds: median(runs.map((run) => run[i]!.milliseconds)),
  }));
  const whole = dispatches.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const flops = dispatches.reduce((sum, dispatch) => sum + matmulFlops(dispatch), 0);
  const lines = Object.entries(Object.groupBy(dispatches, nameOf)).map(([name, group]) => {
    const ms = group!.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    return { name, count: group!.length, ms, flops: matmulFlops(group![0]!) * group!.length };
  }).sort((a, b) => b.ms - a.ms);
  const products = lines.filter((line) => line.flops > 0).reduce((sum, { ms }) => sum + ms, 0);
  const line = (name: string, count: number, ms: number, flops: number) =>
    `| ${name} | ${count} | ${ms.toFixed(1)} | ${(100 * ms / whole).toFixed(1)} % | ${
      flops > 0 ? rate(flops, ms).replace(" GFLOP/s", "") : ""
    } |`;
  return [
    ...lines.map(({ name, count, ms, flops }) => line(name, count, ms, flops)),
    line("all matrix products", dispatches.filter((d) => matmulFlops(d) > 0).length, products, flops),
    line("all", dispatches.length, whole, 0),
  ];
}

function nameOf(dispatch: TimedDispatch): string {
  const { kernel, params } = dispatch;
  return matmulFlops(dispatch) > 0
    ? `${kernel} ${params.m}x${params.n}x${params.k_end! - params.k_begin!}${
      params.rank ? `+${params.rank}` : ""
    }${params.accumulate ? " +=" : ""}`
    : kernel;
}

function rate(flops: number, ms: number): string {
  return `${(flops / ms / 1e6).toFixed(1)} GFLOP/s`;
}
