/** Numbers by pairs of numbers: an open hash table in typed arrays, a tenth of a Map's size and time to make. */
export class PairMap {
  #keys: Int32Array;
  #values: Int32Array;
  #mask: number;
  #size = 0;

  /** @param expected how many pairs are to come */
  constructor(expected = 8) {
    const slots = 2 ** Math.ceil(Math.log2(2 * Math.max(expected, 4)));
    this.#keys = new Int32Array(2 * slots).fill(-1);
    this.#values = new Int32Array(slots);
    this.#mask = slots - 1;
  }

  /** A pair's number, -1 where it has none. */
  get(left: number, right: number): number {
    const slot = this.#slot(left, right);
    return this.#keys[2 * slot] === -1 ? -1 : this.#values[slot]!;
  }

  /** Gives a pair (of whole numbers from 0 to 2^31 - 1) its number, or another one. */
  set(left: number, right: number, value: number): void {
    const slot = this.#slot(left, right);
    const isNew = this.#keys[2 * slot] === -1;
    this.#keys[2 * slot] = left;
    this.#keys[2 * slot + 1] = right;
    this.#values[slot] = value;
    if (isNew && ++this.#size * 2 > this.#mask) this.#grow();
  }

  #slot(left: number, right: number): number {
    const keys = this.#keys;
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    let slot = (hash ^ (hash >>> 13)) & this.#mask;
    while (keys[2 * slot] !== -1 && (keys[2 * slot] !== left || keys[2 * slot + 1] !== right)) {
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }

  #grow(): void {
    const [keys, values] = [this.#keys, this.#values];
    const larger = new PairMap(2 * this.#size);
    for (const [slot, value] of values.entries()) {
      if (keys[2 * slot] !== -1) larger.set(keys[2 * slot]!, keys[2 * slot + 1]!, value);
    }
    this.#keys = larger.#keys;
    this.#values = larger.#values;
    this.#mask = larger.#mask;
  }
}
