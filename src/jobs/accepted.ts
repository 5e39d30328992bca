/** A job that is to go on over rows or a model that have changed; said by a file in its folder until its next checkpoint. */
import { join } from "node:path";
import { PRIVATE_FILE, PRIVATE_FOLDER } from "../private_files.ts";
import { jobFolder } from "./folder.ts";

const FILE = "accept_changes";

/** Records whether the sender of a resume accepts changes. */
export function recordAcceptance(state: string, id: string, accepted: boolean): void {
  const path = join(jobFolder(state, id), FILE);
  if (!accepted) return removeIfThere(path);
  Deno.mkdirSync(jobFolder(state, id), { recursive: true, mode: PRIVATE_FOLDER });
  Deno.writeTextFileSync(path, "", { mode: PRIVATE_FILE });
}

/** Whether the job may go on so. */
export function isAccepted(state: string, id: string): boolean {
  try {
    Deno.statSync(join(jobFolder(state, id), FILE));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
