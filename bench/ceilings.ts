import { defineKernel, type Gpu, Program } from "../src/gpu/mod.ts";
import { recordCopy } from "../src/gpu/ops/elementwise.ts";
import { type Contender, contest, programContender } from "./_contest.ts";
import { type Findings, median, type Settings } from "./_rows.ts";
import fmaSource from "./shaders/fma.wgsl" with { type: "text" };

/** A contender with what one repeat of it does. */
export interface Ceiling extends Contender {
  /** FLOPs, or bytes moved. */
  readonly work: number;
  free(): void;
}

/** Multiply-adds on registers and nothing else. */
export function fmaCeiling(gpu: Gpu): Ceiling {
  // Measured on the software driver: 47, 71, 83, 79 GFLOP/s with 1 to 4 chains.
  const constants = gpu.software ? { SIZE: 8, CHAINS: 3, STEPS: 8 } : { SIZE: 64, CHAINS: 4, STEPS: 8 };
  const groups = gpu.software ? 256 : 16_384;
  const rounds = gpu.software ? 8192 : 512;
  const invocations = groups * constants.SIZE;
  const x = gpu.upload("fma.x", [2], Float32Array.of(0.999, 0.001));
  const y = gpu.tensor("fma.y", [invocations]);
  const program = new Program<Record<string, never>>(gpu, "fma");
  program.dispatch(
    defineKernel({ name: "fma", source: fmaSource, constants }),
    { x, y },
    () => ({ params: { rounds }, workgroups: [groups, 1, 1] }),
  );
  return {
    ...programContender(gpu, program, {}),
    work: invocations * rounds * constants.STEPS * constants.CHAINS * 8,
    free: () => {
      program.free();
      gpu.free(x, y);
    },
  };
}

/** 64 MiB read and written. */
function copyCeiling(gpu: Gpu): Ceiling {
  const count = 2 ** 24;
  const [x, y] = [gpu.tensor("copy.x", [count]), gpu.tensor("copy.y", [count])];
  const program = new Program<Record<string, never>>(gpu, "copy");
  recordCopy(program, { x, y }, { count: () => count });
  return {
    ...programContender(gpu, program, {}),
    work: 8 * count,
    free: () => {
      program.free();
      gpu.free(x, y);
    },
  };
}

/** What the device can do at most. */
export async function benchCeilings(gpu: Gpu, settings: Settings): Promise<Findings> {
  const [fma, copy] = [fmaCeiling(gpu), copyCeiling(gpu)];
  const times = await contest(settings, { fma, copy });
  fma.free();
  copy.free();
  return {
    rows: [
      {
        name: "ceiling: multiply-adds on registers, f32",
        value: fma.work / median(times.fma) / 1e6,
        unit: "GFLOP/s",
        detail: `median of ${settings.rounds}`,
      },
      {
        name: "ceiling: copy of 64 MiB by a kernel, reads and writes counted",
        value: copy.work / median(times.copy) / 1e6,
        unit: "GB/s",
        detail: `median of ${settings.rounds}`,
      },
    ],
  };
}
