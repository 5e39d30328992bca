/** The reader for the archives that {@linkcode openTar} of src/model/tar.ts makes: ustar, regular files only. */
import { dirname, join } from "node:path";

const BLOCK = 512;

/**
 * Unpacks an archive's files under a folder, made where it is missing.
 *
 * @param archive the whole archive
 * @returns the files' names in the archive, in its order
 * @throws Error for a broken archive, an entry that is no regular file, or a name that leads out of the folder
 */
export async function unpackTar(archive: Uint8Array, folder: string): Promise<string[]> {
  const names: string[] = [];
  for (let offset = 0; offset + BLOCK <= archive.length;) {
    const header = archive.subarray(offset, offset + BLOCK);
    if (header.every((byte) => byte === 0)) return names;
    const [prefix, rest] = [textOf(header, 345, 155), textOf(header, 0, 100)];
    const name = prefix === "" ? rest : `${prefix}/${rest}`;
    const size = parseInt(textOf(header, 124, 12), 8);
    const begin = offset + BLOCK;
    if (textOf(header, 257, 5) !== "ustar" || !(begin + size <= archive.length)) {
      throw new Error(`The archive is broken at byte ${offset}: no whole ustar entry stands there.`);
    }
    if (textOf(header, 156, 1) !== "0" || name.split("/").some((part) => part === ".." || part === "")) {
      throw new Error(`The archive's entry ${JSON.stringify(name)} is not a file inside its folder.`);
    }
    const path = join(folder, name);
    await Deno.mkdir(dirname(path), { recursive: true });
    await Deno.writeFile(path, archive.subarray(begin, begin + size));
    names.push(name);
    offset = begin + Math.ceil(size / BLOCK) * BLOCK;
  }
  throw new Error("The archive ends without its closing block: it was cut off.");
}

/** A field's text up to its first NUL. */
function textOf(header: Uint8Array, offset: number, length: number): string {
  return new TextDecoder().decode(header.subarray(offset, offset + length)).replace(/\0.*$/s, "").trim();
}
