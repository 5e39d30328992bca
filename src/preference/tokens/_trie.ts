import { PairMap } from "./_pair_map.ts";

/** Texts by what they begin with, in UTF-16 units. */
export class Trie {
  /** Node and unit to node; 0 is the root. */
  readonly #children: PairMap;
  /** Value by node, -1 where no text ends. */
  readonly #values: number[] = [-1];

  constructor(expected: number) {
    this.#children = new PairMap(expected);
  }

  /** Gives a text its value, a whole number >= 0. */
  set(text: string, value: number): void {
    let node = 0;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      let child = this.#children.get(node, unit);
      if (child < 0) {
        child = this.#values.push(-1) - 1;
        this.#children.set(node, unit, child);
      }
      node = child;
    }
    this.#values[node] = value;
  }

  /** Calls back for each text that stands at a place of another, the shortest first. */
  find(text: string, at: number, found: (end: number, value: number) => void): void {
    let node = 0;
    for (let i = at; i < text.length; i++) {
      node = this.#children.get(node, text.charCodeAt(i));
      if (node < 0) return;
      const value = this.#values[node]!;
      if (value >= 0) found(i + 1, value);
    }
  }

  /** Whether what stands from a place to the text's end begins some text, or is one. */
  isBeginning(text: string, at: number): boolean {
    let node = 0;
    for (let i = at; i < text.length; i++) {
      node = this.#children.get(node, text.charCodeAt(i));
      if (node < 0) return false;
    }
    return true;
  }
}
