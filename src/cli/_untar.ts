/** The reader for the archives that {@linkcode openTar} of src/model/tar.ts makes. */
import { unpackTar as readTar } from "modern-tar";
import { dirname, join } from "node:path";

/**
 * Unpacks an archive's files under a folder, made where it is missing.
 *
 * @param archive the whole archive
 * @returns the files' names in the archive, in its order
 * @throws Error for a broken archive, an entry that is no regular file, or a name that leads out of the folder
 */
export async function unpackTar(archive: Uint8Array, folder: string): Promise<string[]> {
  const entries = await readTar(archive, { strict: true });
  for (const { header: { name, type }, data } of entries) {
    if (
      type !== "file" || data === undefined || name.split("/").some((part) => part === ".." || part === "")
    ) {
      throw new Error(`The archive's entry ${JSON.stringify(name)} is not a file inside its folder.`);
    }
    const path = join(folder, name);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeFile(path, data);
  }
  return entries.map(({ header }) => header.name);
}
