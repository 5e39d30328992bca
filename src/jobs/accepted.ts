/** A job that is to go on over rows or a model that have changed; said by a file in its folder until its next checkpoint. */
import { join } from "node:path";
import { ifThere } from "../model/_files.ts";
import { PRIVATE_FILE, PRIVATE_FOLDER } from "../private_files.ts";
import { jobFolder } from "./folder.ts";

const FILE = "accept_changes";

/** Records whether the sender of a resume accepts changes. */
export function recordAcceptance(state: string, id: string, accepted: boolean): void {
  const path = join(jobFolder(state, id), FILE);
  if (!accepted) return void ifThere(() => Deno.removeSync(path));
  Deno.mkdirSync(jobFolder(state, id), { recursive: true, mode: PRIVATE_FOLDER });
  Deno.writeTextFileSync(path, "", { mode: PRIVATE_FILE });
}

/** Whether the job may go on so. */
export function isAccepted(state: string, id: string): boolean {
  return ifThere(() => Deno.statSync(join(jobFolder(state, id), FILE))) !== null;
}
