/** Where a job keeps its tokens. */
import { join } from "node:path";

/** The folder of tokens in a job's own. */
export function tokenFolder(directory: string): string {
  return join(directory, "tokens");
}
