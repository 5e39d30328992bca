/** Chains of kill -9 and SIGTERM at random moments of real jobs. */
import { type Random, random } from "../../tests/helpers/random.ts";
import {
  after,
  afterCheckpoint,
  endsAsUndisturbed,
  type Moment,
  readingRows,
  TRAININGS,
  writingCheckpoint,
} from "../../tests/service/_crashes.ts";
import type { Soak } from "./_soak.ts";

/** Lives of one job before it is left to end. */
const LIVES = 8;

/**
 * Chains of one seed.
 *
 * @param chains jobs
 * @returns how many lives were ended, and at how many steps jobs went on
 */
export async function crashChains(seed: number, chains: number, signal?: AbortSignal) {
  const source = random(seed);
  let lives = 0;
  let resumed = 0;
  for (let chain = 0; chain < chains && !signal?.aborted; chain++) {
    const name = pick(source, Object.keys(TRAININGS));
    // A job that is killed three times without a new checkpoint in between is taken to be the cause.
    const moments = Array.from(
      { length: LIVES },
      (_, i) => i % 2 === 0 ? anyMoment(source) : afterCheckpoint,
    );
    try {
      resumed += (await endsAsUndisturbed(TRAININGS[name]!, moments)).length - 1;
    } catch (error) {
      const told = `${name}: ${moments.map(({ name, signal }) => `${signal} ${name}`).join(", ")}`;
      throw new Error(`Chain ${chain} of seed ${seed} (${told}): ${(error as Error).message}`, {
        cause: error,
      });
    }
    lives += LIVES;
  }
  return { lives, resumed };
}

function anyMoment(source: Random): Moment {
  const signal = source.uniform() < 0.3 ? "SIGTERM" : "SIGKILL";
  return pick(source, [readingRows, writingCheckpoint, after(source.uniform() * 400, signal)]);
}

function pick<T>(source: Random, all: readonly T[]): T {
  return all[Math.floor(source.uniform() * all.length)]!;
}

/** See {@link crashChains}. */
export const crashes: Soak = {
  proves:
    "Jobs that are killed at any moment end with the metrics and weights of a job let alone, bit for bit.",
  version: 1,
  cells: Array.from({ length: 8 }, (_, i) => `seed ${i + 1}`),
  minutesPerCell: 20,
  run: (cell, signal) => crashChains(Number(cell.split(" ")[1]), 40, signal),
};
