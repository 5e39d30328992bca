/** What a checkpoint's folder is called and holds beside what was learned; of use to those that have no device too. */

/** A run's position and its history, and the checksums of the files beside it. */
export const MANIFEST = "manifest.json";
/** What version 1 had in its place: position and history alone. */
export const STATE = "trainer_state.json";
/** AdamW's moments. */
export const OPTIMIZER = "optimizer.safetensors";

/** The name of a step's folder. */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(6, "0")}`;
}

/** The step of a whole checkpoint's folder; null for another name. */
export function stepOf(name: string): number | null {
  const step = /^step-(\d+)$/.exec(name)?.[1];
  return step === undefined ? null : Number(step);
}
