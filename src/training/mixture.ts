/** Which rows are trained on, how often each comes, and which are held out. */
import { InputError } from "../errors.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { mix32, Random } from "./random.ts";

/** What tells a row from others, and its prompt from other prompts. */
export interface Fingerprint {
  readonly row: number;
  readonly prompt: number;
}

/** Rows by their numbers: from the first to before the end, without some, each so often. */
interface Weighted {
  readonly first: number;
  readonly end: number;
  readonly weight: number;
  readonly without?: ReadonlySet<number>;
}

/** Rows that a source has become: their numbers, and how often each comes in an epoch. */
export type Source = Omit<Weighted, "without">;

/** Which rows are for what. */
export interface Choice {
  readonly train: Uint32Array;
  readonly evaluation: Uint32Array;
  readonly warnings: readonly string[];
}

/**
 * Chooses the rows of an epoch and those of the evaluation.
 *
 * @param prints of all rows, those of the evaluation's own data set behind the others
 * @throws InputError where nothing can be held out, or the weights leave no row to train on
 */
export function chooseRows(
  prints: readonly Fingerprint[],
  sources: readonly Source[],
  evaluated: readonly Source[],
  { eval_fraction, seed }: { readonly eval_fraction: number; readonly seed: number },
): Choice {
  const held = eval_fraction === 0 ? new Set<number>() : holdOut(prints, eval_fraction, seed);
  const train = weighted(sources.map((source) => ({ ...source, without: held })), seed);
  if (train.length === 0) {
    throw new InputError(
      (field) => `${field} has no row in an epoch: the weights are too small for its rows.`,
      { path: ["dataset"], value: sources.map(({ weight }) => weight), accepted: "weights that make a row" },
    );
  }
  const evaluation = eval_fraction === 0 ? weighted(evaluated, seed) : Uint32Array.from(held).sort();
  const shared = countShared(prints, train, evaluation);
  const none = sources.flatMap(({ first, end, weight }, index) =>
    end > first && Math.floor(weight) === 0 && Math.round(weight * (end - first)) === 0
      ? [
        `none of the ${
          end - first
        } rows of dataset[${index}] is trained on: its weight ${weight} makes no row of them.`,
      ]
      : []
  );
  return {
    train,
    evaluation,
    warnings: [
      ...none,
      ...shared === 0 ? [] : [
        `${shared} of the ${evaluation.length} rows of the evaluation stand among those of the training too.`,
      ],
    ],
  };
}

/** Hashes of 53 bits: among a million rows two agree by chance once in ten thousand data sets. */
export function fingerprint({ prompt, responses }: EncodedGroup): Fingerprint {
  const hash = new Hash();
  hash.add(prompt);
  const ofPrompt = hash.value;
  for (const { tokens, scored_from } of responses) {
    hash.add([tokens.length, scored_from]);
    hash.add(tokens);
  }
  return { row: hash.value, prompt: ofPrompt };
}

/**
 * Chooses rows to hold out: whole prompts, so that none is trained on with another answer, until the share is reached.
 *
 * @returns their numbers
 * @throws InputError where all rows have one prompt
 */
export function holdOut(prints: readonly Fingerprint[], fraction: number, seed: number): Set<number> {
  const byPrompt = Map.groupBy(prints.keys(), (number) => prints[number]!.prompt);
  if (byPrompt.size < 2) {
    throw new InputError(
      (field) => `${field} ${fraction} cannot be held out: all rows have the same prompt.`,
      { path: ["eval_fraction"], value: fraction, accepted: "0, or rows of several prompts" },
    );
  }
  const prompts = [...byPrompt].map(([prompt, rows]) => ({
    rows,
    place: mix32(seed, prompt % 2 ** 32, Math.floor(prompt / 2 ** 32)),
  })).sort((a, b) => a.place - b.place || a.rows[0]! - b.rows[0]!);
  const wanted = Math.max(1, Math.round(fraction * prints.length));
  const held = new Set<number>();
  for (const { rows } of prompts.slice(0, -1)) {
    if (held.size >= wanted) break;
    for (const row of rows) held.add(row);
  }
  return held;
}

/** The numbers of rows, each as often as its weight says; of a fraction, so many as it makes, chosen by the seed. */
export function weighted(sources: readonly Weighted[], seed: number): Uint32Array {
  const numbers: number[] = [];
  for (const [index, { first, end, weight, without }] of sources.entries()) {
    const own: number[] = [];
    for (let number = first; number < end; number++) if (!without?.has(number)) own.push(number);
    for (let time = 0; time < Math.floor(weight); time++) for (const number of own) numbers.push(number);
    const some = Math.round((weight % 1) * own.length);
    if (some === 0) continue;
    const chosen = new Random(seed, index, 0x6d6978).permutation(own.length).subarray(0, some).sort();
    for (const place of chosen) numbers.push(own[place]!);
  }
  return Uint32Array.from(numbers);
}

/** How many rows of the evaluation are rows of the training, token for token. */
export function countShared(
  prints: readonly Fingerprint[],
  train: Uint32Array,
  evaluation: Uint32Array,
): number {
  if (evaluation.length === 0) return 0;
  const trained = new Set(Array.from(train, (number) => prints[number]!.row));
  return evaluation.reduce((sum, number) => sum + (trained.has(prints[number]!.row) ? 1 : 0), 0);
}

/** Two hashes of 32 bits, of which 53 are kept. */
class Hash {
  #low = 0x811c9dc5;
  #high = 0x9e3779b9;

  get value(): number {
    return (this.#high >>> 11) * 2 ** 32 + (this.#low >>> 0);
  }

  add(words: ArrayLike<number>): void {
    for (let i = 0; i < words.length; i++) {
      this.#low = Math.imul(this.#low ^ words[i]!, 0x01000193);
      this.#low ^= this.#low >>> 15;
      this.#high = Math.imul(this.#high ^ words[i]!, 0x85ebca6b);
      this.#high ^= this.#high >>> 13;
    }
    this.#low = Math.imul(this.#low ^ words.length, 0x01000193);
    this.#high = Math.imul(this.#high ^ words.length, 0xc2b2ae35);
  }
}
