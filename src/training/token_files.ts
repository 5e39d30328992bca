/** Where a job keeps its tokens. */
import { join } from "node:path";

/** Written last: where it is there the folder is whole. */
export const TOKEN_MANIFEST = "manifest.json";

/** The folder of tokens in a job's own. */
export function tokenFolder(directory: string): string {
  return join(directory, "tokens");
}
