import { dirname } from "node:path";
import { flushFolder } from "../model/_files.ts";
import { writeChecksums } from "../model/checksum_file.ts";
import { PRIVATE_FOLDER } from "../private_files.ts";
import type { Trainable } from "./trainable.ts";

/** Puts a result in its place whole, with its checksums beside it, where a power cut does not lose it. */
export async function publish(trainable: Pick<Trainable, "publish">, result: string): Promise<void> {
  const aside = `${result}.partial`;
  const clear = (folder: string) => Deno.remove(folder, { recursive: true }).catch(() => {});
  await clear(aside);
  await Deno.mkdir(aside, { recursive: true, mode: PRIVATE_FOLDER });
  try {
    await writeChecksums(aside, await trainable.publish(aside));
  } catch (error) {
    await clear(aside);
    throw error;
  }
  await clear(result);
  await Deno.rename(aside, result);
  await flushFolder(dirname(result));
}
