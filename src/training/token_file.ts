/**
 * Groups of tokens in a file beside the job: a run holds only those of a step in memory, and one that goes on after a stop
 * reads no data set again.
 *
 * @module
 */
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { isObject } from "../json.ts";
import { ifThere } from "../model/_files.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import {
  CHUNK,
  FILES,
  GROUP_WORDS,
  groupOf,
  RESPONSE_WORDS,
  type TokenManifest,
  VERSION,
} from "./_token_format.ts";
import type { PreparedFile } from "./prepared_file.ts";

/** Groups by their number, from 0. */
export interface Groups {
  readonly length: number;
  /** A group, read now. */
  at(index: number): EncodedGroup;
  /** Tokens of a group, of its prompt and all its responses. */
  tokens(index: number): number;
}

/** A folder of tokens, open for reading. */
export class TokenFile implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #offsets: Float64Array;
  readonly #checksums: TokenManifest["checksums"];
  /** Tokens of the largest group. */
  readonly largest: number;
  readonly train: Groups;
  readonly eval: Groups;
  /** Every group of the file once. */
  readonly all: Groups;
  /** What was found of the groups before the first step; a group that is read brings its own. */
  prepared: PreparedFile | null = null;

  private constructor(folder: string, { largest, responses, checksums }: TokenManifest) {
    this.#checksums = checksums;
    const read = (name: string) => Deno.readFileSync(join(folder, name)).buffer;
    this.#offsets = new Float64Array(read(FILES.offsets));
    this.largest = largest;
    this.train = this.#view(new Uint32Array(read(FILES.train)), responses);
    this.eval = this.#view(new Uint32Array(read(FILES.eval)), responses);
    this.all = this.#view(Uint32Array.from(this.#offsets.subarray(1), (_, group) => group), responses);
    this.#file = Deno.openSync(join(folder, FILES.tokens));
  }

  /** Opens a folder that is whole. */
  static open(folder: string): TokenFile {
    return new TokenFile(folder, readManifest(folder)!);
  }

  /** Whether a folder is there, whole, and has the tokens that are wanted. */
  static isWhole(folder: string, key: string): boolean {
    const manifest = readManifest(folder);
    if (manifest?.version !== VERSION || manifest.key !== key) return false;
    const { tokens, offsets, train, eval: evaluation } = FILES;
    return [tokens, offsets, train, evaluation]
      .every((name) => checksumOf(join(folder, name)) === manifest.checksums[name]);
  }

  /** CRC-32 of all that an open folder says, by the checksums of its files. */
  get checksum(): string {
    return crc32(JSON.stringify(this.#checksums)).toString(16).padStart(8, "0");
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }

  #view(indices: Uint32Array, responses: number): Groups {
    const group = (index: number) => {
      const number = indices[index];
      if (number === undefined) throw new RangeError(`There is no group ${index}.`);
      return number;
    };
    return {
      length: indices.length,
      at: (index) => this.#read(group(index)),
      tokens: (index) => this.#words(group(index)) - GROUP_WORDS - responses * RESPONSE_WORDS,
    };
  }

  #words(group: number): number {
    return this.#offsets[group + 1]! - this.#offsets[group]!;
  }

  #read(group: number): EncodedGroup {
    const words = new Uint32Array(this.#words(group));
    const bytes = new Uint8Array(words.buffer);
    this.#file.seekSync(this.#offsets[group]! * 4, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) {
      const read = this.#file.readSync(bytes.subarray(done));
      if (read === null) throw new Error("The job's file of tokens has become shorter.");
      done += read;
    }
    return groupOf(words, this.prepared?.of(group));
  }
}

/** A file's checksum, read a chunk at a time; null where it is not there. */
function checksumOf(path: string): number | null {
  using file = ifThere(() => Deno.openSync(path));
  if (file === null) return null;
  const chunk = new Uint8Array(CHUNK);
  let sum = 0;
  for (let read = file.readSync(chunk); read !== null; read = file.readSync(chunk)) {
    sum = crc32(chunk.subarray(0, read), sum);
  }
  return sum;
}

function readManifest(folder: string): (TokenManifest & { readonly version: number }) | null {
  try {
    const { crc32: sum, ...manifest } = JSON.parse(Deno.readTextFileSync(join(folder, FILES.manifest))) ?? {};
    // Earlier versions wrote none.
    const isWhole = isObject(manifest.checksums) &&
      (sum === undefined || sum === crc32(JSON.stringify(manifest)));
    return isWhole ? manifest : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return null;
    throw error;
  }
}
