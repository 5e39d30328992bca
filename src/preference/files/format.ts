/** What a file's name says of how its rows are written. */
import { basename } from "node:path";

/** How rows are written. JSON is one array, or whole values one after another; JSON lines are one value a line. */
export type Format = "parquet" | "arrow" | "csv" | "tsv" | "json" | "json lines";

const FORMATS: Readonly<Record<string, Format>> = {
  parquet: "parquet",
  arrow: "arrow",
  csv: "csv",
  tsv: "tsv",
  json: "json",
  jsonl: "json lines",
  ndjson: "json lines",
};

/** The names that {@link isDataFile} knows, for errors. */
export const DATA_FILES =
  "a .jsonl, .json, .csv or .tsv file (also with .gz or .zst), or a .parquet or .arrow file";

/** The format that a name tells of; null where it tells none. */
export function formatOf(name: string): Format | null {
  const [, ending, compressed] = /\.([a-z]+)(\.gz|\.zst)?$/.exec(basename(name)) ?? [];
  const format = FORMATS[ending ?? ""] ?? null;
  return compressed !== undefined && (format === "parquet" || format === "arrow") ? null : format;
}

/** Whether a file's name is one of rows. */
export function isDataFile(name: string): boolean {
  return formatOf(name) !== null;
}

/** A name without the endings that tell of its format. */
export function stem(name: string): string {
  return name.replace(/\.[a-z]+(\.gz|\.zst)?$/, "");
}
