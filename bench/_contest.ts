/** Alternating rounds between things that take time, so that what slows the machine slows all of them. */
import { type Gpu, type Live, type Program } from "../src/gpu/mod.ts";
import { median, type Settings } from "./_rows.ts";

/** Something to be timed. */
export interface Contender {
  /** @returns milliseconds of one repeat, out of `repeats` between two waits for the device */
  time(repeats: number): Promise<number>;
}

/** A program's run, again and again. */
export function programContender<L extends Live>(gpu: Gpu, program: Program<L>, live: L): Contender {
  return submitContender(gpu, () => program.run(live));
}

/** Work that is submitted to our device. */
export function submitContender(gpu: Gpu, submit: () => void): Contender {
  return {
    time: async (repeats) => {
      const start = performance.now();
      for (let i = 0; i < repeats; i++) submit();
      await gpu.settle();
      return (performance.now() - start) / repeats;
    },
  };
}

/** Work that is timed whole. */
export function workContender(work: () => Promise<unknown>): Contender {
  return {
    time: async (repeats) => {
      const start = performance.now();
      for (let i = 0; i < repeats; i++) await work();
      return (performance.now() - start) / repeats;
    },
  };
}

/**
 * Times the contenders in turn; before that each runs twice, to compile and to find how many repeats take `timed_ms`.
 *
 * @returns milliseconds of one repeat, round by round, by name
 */
export async function contest<Name extends string>(
  { rounds, timed_ms }: Pick<Settings, "rounds" | "timed_ms">,
  contenders: Readonly<Record<Name, Contender>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contenders) as Name[];
  const repeats = {} as Record<Name, number>;
  const times = {} as Record<Name, number[]>;
  for (const name of names) {
    await contenders[name].time(1);
    repeats[name] = Math.max(1, Math.round(timed_ms / await contenders[name].time(1)));
    times[name] = [];
  }
  for (let round = 0; round < rounds; round++) {
    for (const name of names) times[name].push(await contenders[name].time(repeats[name]));
  }
  return times;
}

/** The name with the least median. */
export function fastest<Name extends string>(
  times: Readonly<Record<Name, readonly number[]>>,
  among: readonly Name[],
): Name | undefined {
  return among.toSorted((a, b) => median(times[a]) - median(times[b]))[0];
}
