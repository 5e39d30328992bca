/** Tokens of a block: looked up, kept and let go of as one. */
export const BLOCK_TOKENS = 16;

/** Blocks seen but not kept that are remembered: what is seen again is worth keeping, what is not was seen long ago. */
const MOST_SEEN = 8192;

const NONE = -1;

/** A block of a prompt's tokens behind those of its parents. */
interface Block {
  readonly key: string;
  readonly parent: Block | null;
  readonly children: Map<string, Block>;
  /** Where its keys and values are kept; NONE where they are not. */
  slot: number;
  /** The batch that used it last. */
  batch: number;
  /** In that batch: the token where it is computed; NONE where it is not. */
  token: number;
}

/** Where keys come from that a batch does not compute, and which of those that it computes are to be kept. */
export interface PromptPlan {
  /** Of the prompt's first tokens, by blocks: where each is kept, or which token of the batch computes the block's first. */
  readonly known: readonly ({ readonly slot: number } | { readonly token: number })[];
  /** Blocks that are computed and to be kept: the token that computes the first of each, and where it goes. */
  readonly kept: readonly { readonly token: number; readonly slot: number }[];
}

/**
 * Which blocks of prompts are kept, as a tree: prompts that begin alike share their first blocks, and the longest
 * beginning of a prompt that is there is found, whatever follows it. A block is kept from its second sight on, so that
 * prompts that come once take no room from those that come often. The least recently used go first; the blocks behind a
 * block are never younger than it, so that what is left can always be reached.
 */
export class PromptIndex {
  readonly #free: number[];
  readonly #roots = new Map<string, Block>();
  /** Blocks without a slot and with one, the least recently used first. */
  readonly #seen = new Set<Block>();
  readonly #kept = new Set<Block>();
  #batch = 0;

  /** @param slots that blocks can be kept in */
  constructor(slots: number) {
    this.#free = Array.from({ length: slots }, (_, i) => slots - 1 - i);
  }

  /** Begins a batch: what its prompts use is not let go of before the next. */
  begin(): void {
    this.#batch++;
  }

  /** How many of a prompt's first tokens the batch need not compute: whole blocks, and never the last token. */
  known(prompt: Uint32Array): number {
    let tokens = 0;
    let children: ReadonlyMap<string, Block> = this.#roots;
    for (; tokens + BLOCK_TOKENS < prompt.length; tokens += BLOCK_TOKENS) {
      const block = children.get(keyOf(prompt, tokens));
      if (!block || (block.slot === NONE && !this.#isComputed(block))) break;
      children = block.children;
    }
    return tokens;
  }

  /**
   * Puts a prompt into the batch.
   *
   * @param token index in the batch of the first token that is computed, which comes after the {@link known} ones
   */
  add(prompt: Uint32Array, token: number): PromptPlan {
    const known: PromptPlan["known"][number][] = [];
    const kept: { token: number; slot: number }[] = [];
    const knownTokens = this.known(prompt);
    const path: Block[] = [];
    for (let at = 0; at + BLOCK_TOKENS <= prompt.length; at += BLOCK_TOKENS) {
      const parent = path.at(-1) ?? null;
      const block = this.#child(parent, keyOf(prompt, at));
      const before = block.batch;
      path.push(block);
      if (at < knownTokens) {
        known.push(this.#isComputed(block) ? { token: block.token } : { slot: block.slot });
        if (before !== this.#batch) block.token = NONE;
      } else if (!this.#isComputed(block)) {
        block.token = token + at - knownTokens;
      }
      block.batch = this.#batch;
      if (block.slot !== NONE || before === 0 || (parent && parent.slot === NONE)) continue;
      const slot = this.#slot();
      if (slot === NONE) continue;
      block.slot = slot;
      this.#seen.delete(block);
      kept.push({ token: block.token, slot });
    }
    // those behind first, so that they are never younger
    for (const block of path.reverse()) {
      const set = block.slot === NONE ? this.#seen : this.#kept;
      set.delete(block);
      set.add(block);
    }
    this.#forget();
    return { known, kept };
  }

  #isComputed(block: Block): boolean {
    return block.batch === this.#batch && block.token !== NONE;
  }

  #child(parent: Block | null, key: string): Block {
    const children = parent?.children ?? this.#roots;
    const there = children.get(key);
    if (there) return there;
    const block: Block = { key, parent, children: new Map(), slot: NONE, batch: 0, token: NONE };
    children.set(key, block);
    return block;
  }

  /** A free slot, or that of the least recently used block; NONE where this batch uses them all. */
  #slot(): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    for (const oldest of this.#kept) {
      if (oldest.batch === this.#batch) continue;
      const { slot } = oldest;
      oldest.slot = NONE;
      this.#kept.delete(oldest);
      this.#seen.add(oldest);
      return slot;
    }
    return NONE;
  }

  #forget(): void {
    for (const oldest of this.#seen) {
      if (this.#seen.size <= MOST_SEEN || oldest.batch === this.#batch) break;
      this.#seen.delete(oldest);
      (oldest.parent?.children ?? this.#roots).delete(oldest.key);
    }
  }
}

function keyOf(prompt: Uint32Array, first: number): string {
  return prompt.subarray(first, first + BLOCK_TOKENS).join();
}
