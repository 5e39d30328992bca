/** What every reader of rows yields, and how it says that a file cannot be read. */
import { InputError } from "../../errors.ts";
import { kindOf, missingFile } from "../../model/_files.ts";

/** A row as its file has it. */
export interface SourceRow {
  /**
   * Its number in the data set, from 1: numbers run on from file to file. In JSONL it is the line's, in an array of JSON the
   * element's; a CSV file's header is not counted.
   */
  readonly row: number;
  /** Name of the file, without its folder. */
  readonly file: string;
  /** As parsed; undefined where it could not be read. */
  readonly value?: unknown;
  /** Why this row alone could not be read, to be put behind its name: `is not UTF-8`. */
  readonly problem?: string;
}

/** A row before its number and file are known in the whole data set. */
export type FileRow = Omit<SourceRow, "file">;

/** Asked once a file that knows its columns beforehand: which of them are to be read. */
export type ChooseColumns = (names: readonly string[]) => readonly string[];

/** Most bytes of one row, and so of what is held of a file in text: some millions of tokens. */
export const MOST_ROW_BYTES = 2 ** 25;

/** The problem of a row that is longer than {@link MOST_ROW_BYTES}. */
export const TOO_LONG = `is longer than ${MOST_ROW_BYTES / 2 ** 20} MiB`;

/** A whole file that is no readable one of its kind. @param kind as in "a readable Parquet file" */
export function unreadable(kind: string, why: string): InputError {
  return new InputError((file) => `${file} is not a readable ${kind} file: ${why.replace(/\.$/, "")}.`, {
    accepted: `a whole ${kind} file`,
  });
}

/** Opens a file of rows. @throws {InputError} where it is not there */
export async function openDataFile(path: string): Promise<Deno.FsFile> {
  try {
    // Looked at before it is opened: opening a named pipe would wait for its writer.
    const info = await Deno.stat(path);
    if (!info.isFile) {
      throw new InputError((file) => `${file} is ${kindOf(info)}, not a file.`, {
        accepted: "a regular file",
      });
    }
    return await Deno.open(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw unnamed(missingFile(path, error));
    throw new InputError((file) => `${file} is not there.`, { value: path, accepted: "an existing file" });
  }
}

/** An error of which the reader of the file says the name. */
function unnamed(error: unknown): unknown {
  if (!(error instanceof InputError)) return error;
  return new InputError(error.sentence, { ...error.problem, path: [] });
}
