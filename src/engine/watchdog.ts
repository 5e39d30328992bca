import type { Activity, Heartbeat } from "./heartbeat.ts";

/** Seconds that the engine's thread may stand still, by what it is at. */
export type Limits =
  & Readonly<Record<Activity, number>>
  & {
    /** Of work that shows no progress while the thread itself is alive, as where it waits for a file. */
    readonly progress: number;
    /** Instead of `javascript`, where somebody waits for the work to end. */
    readonly impatient: number;
  };

/** A micro-batch of a large model may take minutes on the software driver; a GPU's own watchdog ends what takes seconds. */
export const LIMITS: Readonly<Record<"gpu" | "software", Limits>> = {
  gpu: { javascript: 30, device: 120, compiling: 300, weights: 300, progress: 900, impatient: 10 },
  software: { javascript: 30, device: 600, compiling: 300, weights: 300, progress: 900, impatient: 10 },
};

/** Times that a thread of ours is looked at within its shortest limit, and the longest time between two looks. */
const LOOKS = 10;
const LONGEST_LOOK_MS = 1000;

const SENTENCES: Readonly<Record<Activity, (seconds: string) => string>> = {
  javascript: (seconds) => `The engine's thread has not answered for ${seconds} s.`,
  device: (seconds) => `The device has not answered for ${seconds} s.`,
  compiling: (seconds) => `The driver has been compiling a kernel for ${seconds} s.`,
  weights: (seconds) => `A piece of a model's weights has been read for ${seconds} s.`,
};

/** What a watchdog looks at. */
export interface Watched {
  readonly heartbeat: Heartbeat;
  readonly limits: () => Limits;
  /** Whether somebody waits for work to end that is under way. */
  readonly impatient: () => boolean;
  /** Called once, with a sentence of what it is. */
  readonly onStuck: (why: string) => void;
}

/**
 * Tells an engine at work from one that hangs: its thread beats, what it works on advances, and each of the two may stand
 * still for a time that depends on what the thread is at.
 *
 * Time counts as far as this thread was awake too: a machine that was asleep is no hang.
 */
export class Watchdog implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #intervalMs: number;
  #looked = performance.now();
  #beats = 0;
  #progress = 0;
  #silentMs = 0;
  #idleMs = 0;

  constructor(private readonly watched: Watched) {
    const shortest = Math.min(...Object.values(watched.limits()));
    this.#intervalMs = Math.min(shortest * 1000 / LOOKS, LONGEST_LOOK_MS);
    this.#timer = setInterval(() => this.#look(), this.#intervalMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const { heartbeat, limits, impatient, onStuck } = this.watched;
    const { beats, progress, activity, working } = heartbeat;
    const now = performance.now();
    const passed = Math.min(now - this.#looked, 2 * this.#intervalMs);
    this.#looked = now;
    // before its first beat it is still being loaded
    this.#silentMs = beats === this.#beats && beats !== 0 ? this.#silentMs + passed : 0;
    // a thread that stands still is judged by what it is at
    if (progress !== this.#progress || !working) this.#idleMs = 0;
    else if (this.#silentMs === 0) this.#idleMs += passed;
    this.#beats = beats;
    this.#progress = progress;
    const limit = limits();
    const silent = activity === "javascript" && impatient() ? limit.impatient : limit[activity];
    const why = this.#silentMs > silent * 1000
      ? SENTENCES[activity](secondsOf(this.#silentMs))
      : this.#idleMs > limit.progress * 1000
      ? `The engine's work has not got on for ${secondsOf(this.#idleMs)} s.`
      : null;
    if (why === null) return;
    this[Symbol.dispose]();
    onStuck(why);
  }
}

function secondsOf(ms: number): string {
  return ms < 10_000 ? (ms / 1000).toFixed(1) : String(Math.round(ms / 1000));
}
