import { dtypeBytes, type Gpu, GpuMemoryError } from "../gpu/mod.ts";
import { KNOWN } from "../gpu/ops/known_rows.ts";
import type { KnownKeys } from "../model/batch_buffers.ts";
import type { ModelConfig } from "../model/config.ts";
import type { KeyValues } from "../model/layers/attention.ts";
import { dependsOnLength } from "../model/rope.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens, type PackedBatch, packGroups, streamTokens } from "../preference/pack.ts";
import { BLOCK_TOKENS, PromptIndex } from "./prompt_index.ts";

/** Batches that go without once the device had no room: each further try costs a scorer its buffers. */
const PAUSE = 256;

/**
 * Keys and values of prompts that came before, on the GPU, for one model with one adapter. Its memory is taken when a
 * prompt's beginning comes for the second time; a device without room goes on without for a while.
 */
export class PromptCache {
  /** Blocks that can be kept; 0: none is. */
  readonly #slots: number;
  #index: PromptIndex;
  #stored: readonly KeyValues[] | null = null;
  /** Batches to come that go without. */
  #pause = 0;

  /** @param bytes at most; 0 turns it off */
  constructor(private readonly gpu: Gpu, private readonly config: ModelConfig, bytes: number) {
    const slotBytes = BLOCK_TOKENS * this.#width * dtypeBytes("f32");
    const each = Math.min(bytes / (2 * config.num_hidden_layers), gpu.maxTensorBytes);
    // where a longer response turns the prompt otherwise, nothing can be known before
    this.#slots = config.plan.ropes.some(dependsOnLength) ? 0 : Math.floor(each / slotBytes);
    this.#index = new PromptIndex(this.#slots);
  }

  /** Begins a batch. */
  plan(): BatchPlan {
    this.#index.begin();
    const without = this.#slots === 0 || this.#pause > 0;
    if (this.#pause > 0) this.#pause--;
    return new BatchPlan(without ? null : this.#index);
  }

  /** The device has no room for what a batch knows: forgets it, and goes without for a while. */
  pause(): void {
    this.clear();
    this.#pause = PAUSE;
  }

  /** Whether a plan's keys are still where they were. */
  holds({ index }: BatchPlan): boolean {
    return index === null || index === this.#index;
  }

  /** Rows of every block, for plans that use them; null where the device has no room, and plans are void. */
  async stored(): Promise<readonly KeyValues[] | null> {
    if (this.#stored) return this.#stored;
    const shape = [this.#slots * BLOCK_TOKENS, this.#width];
    const names = ["prompts.k", "prompts.v"];
    const specs = Array.from({ length: this.config.num_hidden_layers }, () => names)
      .flat().map((name) => ({ name, shape, dtype: "f32" as const }));
    try {
      const tensors = await this.gpu.tensors(specs);
      this.#stored = specs.flatMap((_, i) => i % 2 === 0 ? [{ k: tensors[i]!, v: tensors[i + 1]! }] : []);
    } catch (error) {
      if (!(error instanceof GpuMemoryError)) throw error;
      this.pause();
    }
    return this.#stored;
  }

  /** Forgets all prompts, and lets go of their memory. @returns whether there was any */
  clear(): boolean {
    const stored = this.#stored;
    this.#stored = null;
    this.#index = new PromptIndex(this.#slots);
    this.gpu.free(...stored?.flatMap(({ k, v }) => [k, v]) ?? []);
    return stored !== null;
  }

  get #width(): number {
    return this.config.num_key_value_heads * this.config.head_dim;
  }
}

/** A batch in the making: its groups, and what their prompts need not compute. */
export class BatchPlan {
  #size = 0;
  /** Of the stream. */
  #tokens = 0;
  readonly #groups: EncodedGroup[] = [];
  readonly #known: number[] = [];
  readonly #sources: number[] = [];
  readonly #moves: number[] = [];

  constructor(readonly index: PromptIndex | null) {}

  /** What is computed: no more tokens, and no more rows. */
  get size(): number {
    return this.#size;
  }

  /** Keys that the tokens attend to. */
  get keys(): number {
    return this.#sources.length;
  }

  /** By group: tokens of its prompt that are not computed. */
  get known(): readonly number[] {
    return this.#known;
  }

  /** What the program takes and gives beside the batch; null where that is nothing. */
  get knownKeys(): KnownKeys | null {
    if (this.#tokens === this.keys && this.#moves.length === 0) return null;
    return { sources: Uint32Array.from(this.#sources), moves: Uint32Array.from(this.#moves) };
  }

  /** What a group would add to the {@link size}. */
  sizeOf(group: EncodedGroup): number {
    return groupTokens(group) - (this.index?.known(group.prompt) ?? 0);
  }

  /** Puts a group into the batch. */
  add(group: EncodedGroup): void {
    const plan = this.index?.add(group.prompt, this.#tokens);
    const known = (plan?.known.length ?? 0) * BLOCK_TOKENS;
    const tokens = streamTokens(group) - known;
    for (const block of plan?.known ?? []) {
      const first = "slot" in block ? KNOWN + block.slot * BLOCK_TOKENS : block.token;
      for (let i = 0; i < BLOCK_TOKENS; i++) this.#sources.push(first + i);
    }
    for (let i = 0; i < tokens; i++) this.#sources.push(this.#tokens + i);
    for (const { token, slot } of plan?.kept ?? []) {
      for (let i = 0; i < BLOCK_TOKENS; i++) this.#moves.push(token + i, slot * BLOCK_TOKENS + i);
    }
    this.#groups.push(group);
    this.#known.push(known);
    this.#size += groupTokens(group) - known;
    this.#tokens += tokens;
  }

  /** The groups as one stream, without what is known of their prompts. */
  pack(): PackedBatch {
    return packGroups(this.#groups, this.#known);
  }
}
