import { join } from "node:path";
import { crc32 } from "node:zlib";
import { ifThere } from "../model/_files.ts";
import { PRIVATE_FILE } from "../private_files.ts";

/** Words before a record's numbers: how many groups it has, and the CRC-32 of its numbers. */
const HEAD = 2;

/**
 * What an objective's preparation has found of a job's groups, kept beside their tokens: records one after another, each
 * with its checksum, so that a process that was killed goes on behind the last whole one.
 */
export class PreparedFile {
  readonly #path: string;
  /** [groups, width] */
  readonly #values: Float32Array<ArrayBuffer>;
  #done = 0;

  /**
   * Opens what there is, or begins.
   *
   * @param folder of the tokens
   * @param key what the numbers depend on beside the tokens and the policy
   * @param groups of the folder
   * @param width numbers of a group
   */
  constructor(folder: string, key: string, groups: number, private readonly width: number) {
    this.#path = join(folder, `prepared-${crc32(key).toString(16).padStart(8, "0")}.bin`);
    this.#values = new Float32Array(groups * width);
    const bytes = ifThere(() => Deno.readFileSync(this.#path)) ?? new Uint8Array();
    let [at, whole] = [0, true];
    while (whole && at + HEAD * 4 <= bytes.length) {
      const [count, sum] = new Uint32Array(bytes.slice(at, at + HEAD * 4).buffer) as unknown as [
        number,
        number,
      ];
      const numbers = bytes.slice(at + HEAD * 4, at + (HEAD + count * width) * 4);
      whole = numbers.length === count * width * 4 && crc32(numbers) === sum && this.#done + count <= groups;
      if (!whole) break;
      this.#values.set(new Float32Array(numbers.buffer), this.#done * width);
      this.#done += count;
      at += HEAD * 4 + numbers.length;
    }
    if (at < bytes.length) Deno.truncateSync(this.#path, at);
  }

  /** Groups whose numbers are there: the first so many. */
  get done(): number {
    return this.#done;
  }

  /** Whether those of all groups are there. */
  get isWhole(): boolean {
    return this.#done * this.width === this.#values.length;
  }

  /** Adds the numbers of the groups that follow. @param values [groups, width] */
  append(values: Float32Array<ArrayBuffer>): void {
    const numbers = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const record = new Uint8Array(HEAD * 4 + numbers.length);
    new Uint32Array(record.buffer, 0, HEAD).set([values.length / this.width, crc32(numbers)]);
    record.set(numbers, HEAD * 4);
    using file = Deno.openSync(this.#path, { append: true, create: true, mode: PRIVATE_FILE });
    for (let at = 0; at < record.length;) at += file.writeSync(record.subarray(at));
    this.#values.set(values, this.#done * this.width);
    this.#done += values.length / this.width;
    if (this.isWhole) file.syncDataSync();
  }

  /** Numbers of a group: [width]. */
  of(group: number): Float32Array {
    return this.#values.subarray(group * this.width, (group + 1) * this.width);
  }
}
