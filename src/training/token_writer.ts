import { join } from "node:path";
import { crc32 } from "node:zlib";
import { ifThere } from "../model/_files.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import { PRIVATE_FILE, PRIVATE_FOLDER } from "../private_files.ts";
import { CHUNK, FILES, VERSION, wordsOf } from "./_token_format.ts";

/** Writes groups one after another. */
export class TokenWriter implements Disposable {
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
  constructor(private readonly folder: string) {
    Deno.mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER });
    ifThere(() => Deno.removeSync(join(folder, FILES.manifest))); // first: what it speaks of goes
    this.#file = Deno.openSync(join(folder, FILES.tokens), {
      write: true,
      create: true,
      truncate: true,
      mode: PRIVATE_FILE,
    });
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
      Deno.writeFileSync(join(this.folder, name), bytes, { mode: PRIVATE_FILE });
      checksums[name] = crc32(bytes);
    };
    write(FILES.offsets, this.#offsets.subarray(0, this.#count + 1));
    write(FILES.train, train);
    write(FILES.eval, evaluation);
    const manifest = { version: VERSION, key, largest: this.#largest, responses: this.#responses, checksums };
    const aside = join(this.folder, `${FILES.manifest}.partial`);
    const sealed = { ...manifest, crc32: crc32(JSON.stringify(manifest)) };
    Deno.writeTextFileSync(aside, JSON.stringify(sealed), { mode: PRIVATE_FILE });
    Deno.renameSync(aside, join(this.folder, FILES.manifest));
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
