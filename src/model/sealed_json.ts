/** JSON files that carry their own checksum. */
import { basename } from "node:path";
import { fileError, readJsonObject, writeWhole } from "./_files.ts";
import { crcText } from "./checksums.ts";
import { loadCrc32 } from "./crc32.ts";

/** Writes an object with its checksum, whole or not at all. */
export async function writeSealedJson(
  path: string,
  content: Readonly<Record<string, unknown>>,
): Promise<void> {
  const sealed = { ...content, crc32: await checksumOf(content) };
  await writeWhole(path, [new TextEncoder().encode(JSON.stringify(sealed) + "\n")]);
}

/** @throws {InputError} where the file is missing, is no JSON object, or was changed since it was written */
export async function readSealedJson(path: string): Promise<Record<string, unknown>> {
  const { crc32: sum, ...content } = await readJsonObject(path);
  if (sum === await checksumOf(content)) return content;
  const predicate = "is not as it was written: its checksum is another";
  throw fileError(basename(path), predicate, "the file as the worker wrote it");
}

/** Of what is said, not of how it is written: JSON.stringify gives numbers and names back as it has written them. */
async function checksumOf(content: Readonly<Record<string, unknown>>): Promise<string> {
  const crc32 = await loadCrc32();
  return crcText(crc32(JSON.stringify(content)));
}
