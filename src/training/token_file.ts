/**
 * Groups of tokens in a file beside the job: a run holds only those of a step in memory, and one that goes on after a stop
 * reads no data set again.
 *
 * @module
 */
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { isObject } from "../json.ts";
import type { EncodedGroup, EncodedResponse } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import type { PreparedFile } from "./prepared_file.ts";
import { TOKEN_MANIFEST } from "./token_files.ts";
import { PRIVATE_FILE, PRIVATE_FOLDER } from "../private_files.ts";

/** Groups by their number, from 0. */
export interface Groups {
  readonly length: number;
  /** A group, read now. */
  at(index: number): EncodedGroup;
  /** Tokens of a group, of its prompt and all its responses. */
  tokens(index: number): number;
}

/** What a folder of tokens has beside the groups. */
export interface TokenManifest {
  /** What the tokens depend on; other tokens belong to something else. */
  readonly key: string;
  /** Tokens of the largest group. */
  readonly largest: number;
  /** Responses of every group. */
  readonly responses: number;
  /** Of each file: what a damaged disk or a copy in parts has changed is not trained on. */
  readonly checksums: Readonly<Record<string, number>>;
}

/** Changes when what is written does. */
const VERSION = 2;
/** Bytes that are gathered before they are written. */
const CHUNK = 1 << 20;
/** Words before a group's responses, and of each response before its tokens. */
const [GROUP_WORDS, RESPONSE_WORDS] = [4, 3];
const [TRUNCATED, PREDICTS_NEXT] = [1, 2];
const FILES = {
  tokens: "tokens.bin",
  offsets: "offsets.bin",
  train: "train.bin",
  eval: "eval.bin",
  manifest: TOKEN_MANIFEST,
};

/** Writes groups one after another. */
export class TokenWriter implements Disposable {
  readonly #folder: string;
  readonly #file: Deno.FsFile;
  #waiting: Uint32Array[] = [];
  #waitingWords = 0;
  #words = 0;
  /** Where each group begins, in words, and where the last ends. */
  #offsets: Float64Array<ArrayBuffer> = new Float64Array(1024);
  #count = 0;
  #largest = 0;
  #responses = 0;
  #checksum = 0;

  /** Begins anew in a folder, which is made. */
  constructor(folder: string) {
    this.#folder = folder;
    Deno.mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER });
    removeIfThere(join(folder, FILES.manifest)); // first: what it speaks of goes
    this.#file = Deno.openSync(join(folder, FILES.tokens), {
      write: true,
      create: true,
      truncate: true,
      mode: PRIVATE_FILE,
    });
  }

  /** Groups written. */
  get length(): number {
    return this.#count;
  }

  /** Tokens of the largest group. */
  get largest(): number {
    return this.#largest;
  }

  /** Writes a group. @returns its number */
  add(group: EncodedGroup): number {
    const words = wordsOf(group);
    if (this.#count > 0 && group.responses.length !== this.#responses) {
      throw new TypeError(`A group has ${group.responses.length} responses, not ${this.#responses}.`);
    }
    this.#responses = group.responses.length;
    if (this.#count + 1 >= this.#offsets.length) {
      const longer = new Float64Array(this.#offsets.length * 2);
      longer.set(this.#offsets);
      this.#offsets = longer;
    }
    this.#words += words.length;
    this.#offsets[++this.#count] = this.#words;
    this.#largest = Math.max(this.#largest, groupTokens(group));
    this.#waiting.push(words);
    this.#waitingWords += words.length;
    if (this.#waitingWords * 4 >= CHUNK) this.#flush();
    return this.#count - 1;
  }

  /** Writes what the groups are used for and, last, that the folder is whole. */
  finish(key: string, train: Uint32Array, evaluation: Uint32Array): void {
    this.#flush();
    this.#file.syncSync();
    const checksums: Record<string, number> = { [FILES.tokens]: this.#checksum };
    const write = (name: string, data: Float64Array | Uint32Array) => {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      Deno.writeFileSync(join(this.#folder, name), bytes, { mode: PRIVATE_FILE });
      checksums[name] = crc32(bytes);
    };
    write(FILES.offsets, this.#offsets.subarray(0, this.#count + 1));
    write(FILES.train, train);
    write(FILES.eval, evaluation);
    const manifest = { version: VERSION, key, largest: this.#largest, responses: this.#responses, checksums };
    const aside = join(this.#folder, `${FILES.manifest}.partial`);
    const sealed = { ...manifest, crc32: crc32(JSON.stringify(manifest)) };
    Deno.writeTextFileSync(aside, JSON.stringify(sealed), { mode: PRIVATE_FILE });
    Deno.renameSync(aside, join(this.#folder, FILES.manifest));
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }

  #flush(): void {
    const all = new Uint32Array(this.#waitingWords);
    let at = 0;
    for (const words of this.#waiting) {
      all.set(words, at);
      at += words.length;
    }
    const bytes = new Uint8Array(all.buffer);
    this.#checksum = crc32(bytes, this.#checksum);
    for (let done = 0; done < bytes.length;) done += this.#file.writeSync(bytes.subarray(done));
    this.#waiting = [];
    this.#waitingWords = 0;
  }
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
  try {
    using file = Deno.openSync(path);
    const chunk = new Uint8Array(CHUNK);
    let sum = 0;
    for (let read = file.readSync(chunk); read !== null; read = file.readSync(chunk)) {
      sum = crc32(chunk.subarray(0, read), sum);
    }
    return sum;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
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

function wordsOf({ row, prompt, responses, prompt_truncated }: EncodedGroup): Uint32Array {
  const length = responses.reduce((sum, { tokens }) => sum + RESPONSE_WORDS + tokens.length, 0);
  const words = new Uint32Array(GROUP_WORDS + length + prompt.length);
  words.set([row, prompt_truncated, prompt.length, responses.length]);
  let at = GROUP_WORDS;
  for (const { tokens, scored_from, truncated, predicts_next } of responses) {
    words.set(
      [tokens.length, scored_from, (truncated ? TRUNCATED : 0) | (predicts_next ? PREDICTS_NEXT : 0)],
      at,
    );
    at += RESPONSE_WORDS;
  }
  for (const tokens of [prompt, ...responses.map(({ tokens }) => tokens)]) {
    words.set(tokens, at);
    at += tokens.length;
  }
  return words;
}

/** @param numbers of its responses one after another */
function groupOf(words: Uint32Array, numbers?: Float32Array): EncodedGroup {
  const [row, prompt_truncated, promptLength, count] = words as unknown as [number, number, number, number];
  let at = GROUP_WORDS + count * RESPONSE_WORDS;
  const width = (numbers?.length ?? 0) / count;
  const take = (length: number) => words.subarray(at, at += length);
  const prompt = take(promptLength);
  const responses = Array.from({ length: count }, (_, index): EncodedResponse => {
    const head = GROUP_WORDS + index * RESPONSE_WORDS;
    const flags = words[head + 2]!;
    return {
      tokens: take(words[head]!),
      scored_from: words[head + 1]!,
      truncated: (flags & TRUNCATED) !== 0,
      ...((flags & PREDICTS_NEXT) === 0 ? {} : { predicts_next: true }),
      ...(numbers && { numbers: numbers.subarray(index * width, (index + 1) * width) }),
    };
  });
  return { row, prompt, responses, prompt_truncated };
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
