/** A disk that is full at each of the writes of a job's life. */
import { TRAININGS } from "../../tests/service/_crashes.ts";
import { endsAfterFullDisk, type FullDisk } from "../../tests/service/_full_disk.ts";
import type { Soak } from "./_soak.ts";

/** The disk gives room a page at a time: every page that a job takes is the first that it does not get. */
const PAGE = 4096;
/** More than a job of any kind takes between its start and its end. */
const PAGES = 336;
const PAGES_PER_CELL = 28;

const ENDS = { "no restart": undefined, "kill -9": "SIGKILL", SIGTERM: "SIGTERM" } as const;

/** Where in a job's life the disk is filled, after how many checkpoints: what it takes from there on is covered. */
const MOMENTS = [0, 3];

const CELLS = Object.keys(TRAININGS).flatMap((training) =>
  Object.keys(ENDS).flatMap((end) =>
    Array.from(
      { length: PAGES / PAGES_PER_CELL },
      (_, i) => `${training}, ${end}, pages ${i * PAGES_PER_CELL}-${(i + 1) * PAGES_PER_CELL - 1}`,
    )
  )
);

/** See {@link endsAfterFullDisk}. */
export const disk: Soak = {
  proves:
    "A job under which the disk is full, whichever write it is that finds no room, waits and ends as let alone, bit for bit.",
  version: 1,
  cells: CELLS,
  minutesPerCell: 6,
  run: async (cell, signal) => {
    const [, training, end, first, last] = /^(.+), (.+), pages (\d+)-(\d+)$/.exec(cell)!;
    const times: FullDisk[] = [];
    for (let pages = Number(first); pages <= Number(last); pages++) {
      const how = ENDS[end as keyof typeof ENDS];
      for (const after of MOMENTS) times.push({ after, leave: pages * PAGE, ...(how && { end: how }) });
    }
    const waits = await endsAfterFullDisk(TRAININGS[training!]!, times, signal);
    if (waits === null) throw new Error("no disk can be mounted: this takes Linux and its administrator");
    return { fills: times.length, waits: waits.reduce((sum, wait) => sum + wait, 0) };
  },
};
