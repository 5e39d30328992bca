/** Seeded randomness, the same on every machine. */

/** FNV-1a of a string: 32 bits that decide which split a problem belongs to, whatever order problems are drawn in. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  // FNV's low bits change little from key to key; murmur3's finaliser spreads them.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** sfc32 (Chris Doty-Humphrey's Small Fast Counter): 128 bits of state, integer arithmetic only. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** @param seed Anything with a name: `"pretrain 42"`. */
  constructor(seed: string) {
    this.#a = hashText(`${seed} a`);
    this.#b = hashText(`${seed} b`);
    this.#c = hashText(`${seed} c`);
    for (let i = 0; i < 12; i++) this.bits();
  }

  /** 32 random bits. */
  bits(): number {
    const sum = (this.#a + this.#b + this.#counter) >>> 0;
    this.#counter = (this.#counter + 1) >>> 0;
    this.#a = (this.#b ^ (this.#b >>> 9)) >>> 0;
    this.#b = (this.#c + (this.#c << 3)) >>> 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) >>> 0;
    return sum;
  }

  /** Uniform in [0, 1). */
  unit(): number {
    return this.bits() / 2 ** 32;
  }

  /** A whole number from 0 to `count` - 1. */
  below(count: number): number {
    return Math.floor(this.unit() * count);
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  /** One of the values. */
  pick<T>(values: readonly T[]): T {
    if (values.length === 0) throw new RangeError("pick() needs at least one value.");
    return values[this.below(values.length)] as T;
  }

  /** `count` different ones of the values, in random order. */
  sample<T>(values: readonly T[], count: number): T[] {
    const pool = [...values];
    const drawn: T[] = [];
    for (let i = 0; i < count; i++) drawn.push(...pool.splice(this.below(pool.length), 1));
    return drawn;
  }

  /** The values in random order. */
  shuffle<T>(values: readonly T[]): T[] {
    return this.sample(values, values.length);
  }

  /** Standard normal, by Box and Muller. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.unit()));
    return radius * Math.cos(2 * Math.PI * this.unit());
  }
}
