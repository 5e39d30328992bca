/** What a system answers whose disk cannot be used: no fault of a job or of a request. */
import { InputError } from "../errors.ts";

/** SQLite's own words; its errors carry no code from everywhere. */
const DATA_BASE_FULL = /database or disk is full/;
const DATA_BASE_FAULT =
  /disk I\/O error|attempt to write a readonly database|unable to open database file|database disk image is malformed|file is not a database/;

/**
 * Numbers of errors that come from another thread, which have them in their message alone: `full` are ENOSPC, EDQUOT and
 * EFBIG; `refused` EROFS, and EIO, ENOMEM, ENFILE and EMFILE, and where a disk of another machine or its file system is at
 * fault ESTALE, EUCLEAN and EREMOTEIO: the system has no part in what it was asked for.
 */
const NUMBERS: Readonly<Record<string, Record<"full" | "refused", readonly number[]>>> = {
  windows: { full: [112, 39], refused: [19, 4, 8, 14] },
  linux: { full: [28, 122, 27], refused: [30, 5, 12, 23, 24, 116, 117, 121] },
  darwin: { full: [28, 69, 27], refused: [30, 5, 12, 23, 24, 70] },
};
const { full: FULL, refused: REFUSED } = NUMBERS[Deno.build.os] ?? NUMBERS["darwin"]!;

/** The system does not let the jobs' files be used as they should be. What was to be done can be done later. */
export class StorageError extends InputError {
  override readonly name = "InputError";

  /**
   * @param why what the system said
   * @param full whether room is what it takes
   */
  constructor(why: string, full: boolean) {
    const accepted = full
      ? "more room on the disk of SIMPO_STATE"
      : "a folder that can be read and written to";
    super(`The jobs' files cannot be read or written: ${why}.`, {
      path: ["SIMPO_STATE"],
      accepted,
      status: full ? 507 : 503,
    });
  }
}

/**
 * An error as the system's own, where it is that: of SQLite, of a file that was used on any thread, or of a download that
 * found no room; else null.
 */
export function storageError(error: unknown): InputError | null {
  if (error instanceof StorageError) return error;
  if (error instanceof InputError) return error.status === 507 ? error : null;
  if (!(error instanceof Error)) return null;
  const { message } = error;
  if (DATA_BASE_FULL.test(message)) return new StorageError(message, true);
  if (DATA_BASE_FAULT.test(message)) return new StorageError(message, false);
  const number = Number(/\(os error (\d+)\)/.exec(message)?.[1]);
  if (FULL.includes(number)) return new StorageError(systemWords(message), true);
  return REFUSED.includes(number) ? new StorageError(systemWords(message), false) : null;
}

/** What the system said of a file, without the file's path. */
export function systemWords(message: string): string {
  return /^(.*?) ?\(os error \d+\)/.exec(message)?.[1] ?? message;
}

/** Why a job waits whose files, or whose state, could not be written. */
export function whyWaiting(error: unknown): string {
  return storageError(error)?.message ?? `Its state could not be kept: ${(error as Error).message}`;
}
