/** What the engine is at, kept in a file: a process that ends in the middle leaves behind what it was. */
import { join } from "node:path";
import type { CallName, Calls, ScoringWeights } from "./protocol.ts";

/** Weights that a step of a scoring call, or of their loading, uses: what is charged where the process ends in it. */
export interface ScoringWork extends ScoringWeights {
  readonly name: CallName;
}

/** What a call's steps are charged to; null where it neither scores nor loads weights to score with. */
export function scoringWork(name: CallName, request: Calls[CallName]["request"]): ScoringWork | null {
  if (request === null || name !== "score_tokens" && name !== "sequence_tokens" && name !== "load") {
    return null;
  }
  const { model, adapter, quantization } = request as ScoringWeights;
  return { name, model, adapter, quantization };
}

/** Whether a call cannot go on where some work has broken the engine: it is that, or needs the weights that it loads. */
export function dependsOn(call: ScoringWork | null, work: ScoringWork): boolean {
  return call !== null && work.name === "load" && call.model === work.model &&
    call.adapter === work.adapter &&
    call.quantization === work.quantization;
}

/** What stood in the journal. */
export interface JournalEntry {
  /** The job that held the device. */
  readonly job: string | null;
  /** The step of a scoring call that was under way, between two of the job's micro-batches where there was one. */
  readonly work: ScoringWork | null;
}

const EMPTY: JournalEntry = { job: null, work: null };

function fileIn(folder: string): string {
  return join(folder, "engine-journal.json");
}

/**
 * Writes the journal: a line of JSON at the start of a file that stays open, a few microseconds each time. It is not
 * flushed, since it is to outlive the process, not the machine.
 */
export class Journal implements Disposable {
  readonly #file: Deno.FsFile | null;
  #entry = EMPTY;
  #written = "";

  /** @param folder null: nothing is written */
  constructor(folder: string | null) {
    this.#file = folder === null ? null : open(folder);
    this.#write();
  }

  /** The job that holds the device. */
  set job(job: string | null) {
    this.#entry = { ...this.#entry, job };
    this.#write();
  }

  /** The step of a scoring call that is under way. */
  set work(work: ScoringWork | null) {
    this.#entry = { ...this.#entry, work };
    this.#write();
  }

  [Symbol.dispose](): void {
    this.#file?.close();
  }

  /** A full disk or a folder that has gone must not end what the journal is about: it then tells less. */
  #write(): void {
    if (this.#file === null) return;
    const text = `${JSON.stringify(this.#entry)}\n`;
    if (text === this.#written) return;
    try {
      this.#file.seekSync(0, Deno.SeekMode.Start);
      this.#file.writeSync(new TextEncoder().encode(text));
      this.#written = text;
    } catch {
      this.#written = "";
    }
  }
}

function open(folder: string): Deno.FsFile | null {
  try {
    return Deno.openSync(fileIn(folder), { write: true, create: true, mode: 0o600 });
  } catch {
    return null;
  }
}

/** What an earlier process was at when it ended; null where it was at nothing, or did not say. */
export function readJournal(folder: string): JournalEntry | null {
  try {
    const [line = ""] = Deno.readTextFileSync(fileIn(folder)).split("\n", 1);
    const { job, work } = JSON.parse(line) as JournalEntry;
    const isEntry = (job === null || typeof job === "string") &&
      (work === null || typeof work === "object" && typeof work.model === "string");
    return isEntry && (job !== null || work !== null) ? { job, work } : null;
  } catch {
    return null;
  }
}

/** Whether an earlier process ended in a scoring call's step: no job is to be charged with that, whatever it was at. */
export function endedInScoring(folder: string): boolean {
  return readJournal(folder)?.work != null;
}
