/** The checksums beside a result, which PEFT and transformers do not read. */
import { join } from "node:path";
import { exists } from "./_files.ts";
import { checkFiles, type Checksums, checksumsOf } from "./checksums.ts";
import { readSealedJson, writeSealedJson } from "./sealed_json.ts";

/** Its name in a folder. */
export const CHECKSUMS = "checksums.json";
const VERSION = 1;

/**
 * Writes down what the files in a folder are.
 *
 * @param written checksums that are known from when the files were written
 */
export async function writeChecksums(folder: string, written: Checksums): Promise<void> {
  const files = await checksumsOf(folder, written);
  await writeSealedJson(join(folder, CHECKSUMS), { version: VERSION, files });
}

/**
 * Compares the files in a folder with the checksums beside them; without any it says nothing.
 *
 * @throws {InputError} naming the file, and the tensor in it, that is not as it was written
 */
export async function checkFolder(folder: string): Promise<void> {
  const path = join(folder, CHECKSUMS);
  if (!await exists(path)) return;
  await checkFiles(folder, (await readSealedJson(path))["files"] as Checksums);
}
