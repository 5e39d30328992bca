/** A disk that is full at each of the writes of a job's life. */
import { TRAININGS } from "../../tests/service/_crashes.ts";
import { endsAfterFullDisk, type FullDisk } from "../../tests/service/_full_disk.ts";
import type { Soak } from "./_soak.ts";

/** The disk gives room a page at a time: every page that a job takes is the first that it does not get. */
const PAGE = 4096;
/** More than a job of any kind takes between its start and its end. */
const PAGES = 336;
/** A cell takes every twelfth page, so that the first cells look at all of a job's life. */
const STRIDE = 12;

const ENDS = { "no restart": undefined, "kill -9": "SIGKILL", SIGTERM: "SIGTERM" } as const;

/** Where in a job's life the disk is filled, after how many checkpoints: what it takes from there on is covered. */
const MOMENTS = [0, 3];

const CELLS = Array.from(
  { length: STRIDE },
  (_, first) =>
    Object.keys(TRAININGS).flatMap((training) =>
      Object.keys(ENDS).map((end) => `${training}, ${end}, every ${STRIDE}th page from ${first}`)
    ),
).flat();

/** See {@link endsAfterFullDisk}. */
export const disk: Soak = {
  proves:
    "A job under which the disk is full, whichever write it is that finds no room, waits and ends as let alone, bit for bit.",
  version: 2,
  cells: CELLS,
  minutesPerCell: 6,
  run: async (cell, signal) => {
    const [, training, end, first] = /^(.+), (.+), every \d+th page from (\d+)$/.exec(cell)!;
    const times: FullDisk[] = [];
    for (let pages = Number(first); pages < PAGES; pages += STRIDE) {
      const how = ENDS[end as keyof typeof ENDS];
      for (const after of MOMENTS) times.push({ after, leave: pages * PAGE, ...(how && { end: how }) });
    }
    const waits = await endsAfterFullDisk(TRAININGS[training!]!, times, signal);
    if (waits === null) throw new Error("no disk can be mounted: this takes Linux and its administrator");
    return { fills: times.length, waits: waits.reduce((sum, wait) => sum + wait, 0) };
  },
};
