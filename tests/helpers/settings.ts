import { type Comparison, readRow, type RowKind } from "../../src/preference/rows.ts";
import { objectiveOf } from "../../src/objective/mod.ts";
import { type GivenRows, readDataset } from "../../src/jobs/given_rows.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import type { TrainingSettings } from "../../src/api/settings.ts";

/** Small steps of four rows, every step logged, nothing saved before the end. */
const DEFAULTS = {
  learning_rate: 1e-2,
  lr_scheduler_type: "constant",
  warmup_ratio: 0,
  batch_size: 4,
  max_length: 96,
  max_prompt_length: 48,
  save_steps: 0,
  lora: { r: 4 },
  seed: 1,
};

/** Settings as `POST /train` resolves them, with defaults that suit a tiny model. */
export function settingsOf(spec: Readonly<Record<string, unknown>> = {}): TrainingSettings {
  return parseJobSpec({ model: "m", dataset: { path: "p" }, ...DEFAULTS, ...spec }).settings;
}

/** Rows of a method as a job has them. */
export function datasetOf(
  rows: readonly unknown[],
  method = "simpo",
): GivenRows {
  return readDataset(
    { rows: [...rows] },
    objectiveOf(method === undefined ? undefined : { type: method }).rows,
    1,
  ) as GivenRows;
}

/** The one comparison that a row makes. */
export function parseRow(value: unknown, row: number, kind: RowKind): Comparison {
  const { comparisons } = readRow(value, row, { kind });
  if (comparisons.length !== 1) throw new TypeError(`Row ${row} makes ${comparisons.length} comparisons.`);
  return comparisons[0]!;
}
