/** Lengths in tokens, counted: a data set's percentiles without its rows. */
export class Lengths {
  #counts: Uint32Array<ArrayBuffer> = new Uint32Array(1024);
  #total = 0;
  /** The longest. */
  max = 0;

  /** Counts a length. */
  add(length: number, times = 1): void {
    if (length >= this.#counts.length) {
      const longer = new Uint32Array(Math.max(length + 1, this.#counts.length * 2));
      longer.set(this.#counts);
      this.#counts = longer;
    }
    this.#counts[length]! += times;
    this.#total += times;
    this.max = Math.max(this.max, length);
  }

  /**
   * The least length that so many are not longer than.
   *
   * @param share of all, from 0 to 1
   */
  percentile(share: number): number {
    let left = Math.ceil(share * this.#total);
    for (let length = 0; length <= this.max; length++) {
      left -= this.#counts[length]!;
      if (left <= 0) return length;
    }
    return this.max;
  }

  /** Counts what another has counted. */
  take(other: Lengths): void {
    for (const [length, times] of other.#counts.entries()) if (times > 0) this.add(length, times);
  }
}
