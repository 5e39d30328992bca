/** CRC-32 of written files, tensor by tensor: what a disk or a copy has changed is noticed before it is used. */
import { basename, join } from "node:path";
import { InputError } from "../errors.ts";
import { fileError, missingFile } from "./_files.ts";
import { loadCrc32 } from "./crc32.ts";
import { openShard } from "./_safetensors_file.ts";

/** Of one file. */
export interface FileChecksum {
  readonly bytes: number;
  /** 8 hexadecimal digits: of the whole file, or of a safetensors file's header. */
  readonly crc32: string;
  /** Of each tensor of a safetensors file. */
  readonly tensors?: Readonly<Record<string, string>>;
}

/** Of a folder's files by their paths in it. */
export type Checksums = Readonly<Record<string, FileChecksum>>;

/** Bytes read at once. */
const PIECE = 4 * 2 ** 20;

/** A CRC-32 as it is written down. */
export function crcText(sum: number): string {
  return sum.toString(16).padStart(8, "0");
}

/**
 * The checksums of all files in a folder and the folders in it.
 *
 * @param written those that are known from when the files were written; the others are read
 */
export async function checksumsOf(folder: string, written: Checksums = {}): Promise<Checksums> {
  const sums: Record<string, FileChecksum> = {};
  for (const name of await filesIn(folder)) {
    sums[name] = written[name] ?? await checksumOf(join(folder, name));
  }
  return sums;
}

/**
 * Reads files and compares them with what was written.
 *
 * @param between called between two pieces of them; what it throws ends the reading
 * @throws {InputError} naming the first file, and the tensor in it, that is missing or another
 */
export async function checkFiles(
  folder: string,
  sums: Checksums,
  between: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  for (const [name, sum] of Object.entries(sums)) {
    const damaged = (what: string) =>
      new InputError((file) => `${what}${file} is not as it was written: its checksum is another.`, {
        path: [{ file: name }],
        accepted: "the file as the worker wrote it",
      });
    using file = await openToRead(join(folder, name));
    const { size } = await file.stat();
    if (size !== sum.bytes) {
      const predicate = `has ${size} bytes, but was written with ${sum.bytes}`;
      throw fileError(name, predicate, `${sum.bytes} bytes`, size);
    }
    if (sum.tensors === undefined) {
      if (await crcOf(file, 0, size, between) !== sum.crc32) throw damaged("");
      continue;
    }
    const shard = await openShard(join(folder, name));
    try {
      const tensors = [...shard.tensors];
      const header = tensors[0]?.[1].begin ?? size;
      if (await crcOf(file, 0, header, between) !== sum.crc32) throw damaged("The header of ");
      for (const [tensor, { begin, end }] of tensors) {
        if (await crcOf(file, begin, end, between) !== sum.tensors[tensor]) throw damaged(`${tensor} in `);
      }
    } finally {
      shard.file.close();
    }
  }
}

/** A whole file's. */
async function checksumOf(path: string): Promise<FileChecksum> {
  using file = await openToRead(path);
  const { size } = await file.stat();
  return { bytes: size, crc32: await crcOf(file, 0, size) };
}

/** The CRC-32 of a range of bytes, read a piece at a time. */
export async function crcOf(
  file: Deno.FsFile,
  begin: number,
  end: number,
  between: () => Promise<void> = () => Promise.resolve(),
): Promise<string> {
  const piece = new Uint8Array(Math.min(PIECE, end - begin));
  await file.seek(begin, Deno.SeekMode.Start);
  const crc32 = await loadCrc32();
  let sum = 0;
  for (let left = end - begin; left > 0;) {
    const count = await file.read(piece.subarray(0, Math.min(left, piece.length)));
    if (count === null) break; // it has become shorter: the sum is another
    sum = crc32(piece.subarray(0, count), sum);
    left -= count;
    await between();
  }
  return crcText(sum);
}

/** Opens a file. @throws {InputError} where there is none, or something that could be waited for without end */
export async function openToRead(path: string): Promise<Deno.FsFile> {
  try {
    const { isFile, isDirectory } = await Deno.stat(path);
    if (isFile) return await Deno.open(path);
    if (isDirectory) throw new Deno.errors.IsADirectory();
  } catch (error) {
    throw missingFile(path, error);
  }
  throw fileError(basename(path), "is neither a file nor a folder", "a regular file");
}

/** Paths of the files in a folder and the folders in it, sorted. */
async function filesIn(folder: string, prefix = ""): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(join(folder, prefix))) {
    if (isDirectory) names.push(...await filesIn(folder, `${prefix}${name}/`));
    else names.push(prefix + name);
  }
  return names.sort();
}
