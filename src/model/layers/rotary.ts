import type { Gpu, Tensor } from "../../gpu/mod.ts";
import { recordRope, ropeRotations } from "../../gpu/ops/rope.ts";
import type { PackedBatch } from "../../preference/pack.ts";
import { dependsOnLength, ropeAttentionFactor, ropeFrequencies, type RopeSettings } from "../rope.ts";
import type { LayerContext } from "./context.ts";
import type { Recording } from "./recording.ts";

/** Turns the heads of queries and keys by the angles of one set of rotary settings. */
export class Rotary {
  readonly #rope: RopeSettings;
  readonly #head_dim: number;
  /** [rows, rotary_dim / 2, 2] (cos, sin) */
  readonly #rotations: Tensor;
  /** [tokens]: each token's row. Angles that depend on the sequence's length have a row a token. */
  readonly #rows: Tensor;

  /** @param index tells the settings of a model apart */
  constructor(
    { config, budget: { tokens }, batch, scratch }: LayerContext,
    rope: RopeSettings,
    index: number,
  ) {
    const most = Math.max(tokens, batch.known?.sources.shape[0] ?? 0);
    this.#rope = rope;
    this.#head_dim = config.head_dim;
    this.#rotations = scratch.f32(`rotations.${index}`, most, rope.rotary_dim / 2, 2);
    this.#rows = dependsOnLength(rope) ? scratch.u32(`token_indices.${index}`, tokens) : batch.positions;
  }

  /** Writes what is the same for every batch. */
  write(gpu: Gpu): void {
    const rope = this.#rope;
    if (dependsOnLength(rope)) {
      gpu.write(this.#rows, Uint32Array.from({ length: this.#rows.shape[0]! }, (_, i) => i));
      return;
    }
    const most = this.#rotations.shape[0]!;
    gpu.write(this.#rotations, ropeRotations(ropeFrequencies(rope), most, ropeAttentionFactor(rope)));
  }

  /** Writes what depends on the batch. */
  upload(gpu: Gpu, batch: PackedBatch): void {
    if (dependsOnLength(this.#rope)) gpu.write(this.#rotations, rotationsOfTokens(this.#rope, batch));
  }

  /** In place, x [tokens, heads * head_dim]. */
  forward(recording: Recording, x: Tensor): void {
    this.#record(recording, x, 1);
  }

  /** In place: the gradient of a rotation is the opposite rotation. */
  backward(recording: Recording, d_x: Tensor): void {
    this.#record(recording, d_x, -1);
  }

  #record({ program }: Recording, x: Tensor, direction: 1 | -1): void {
    const tensors = { x, positions: this.#rows, rotations: this.#rotations };
    recordRope(program, tensors, { head_dim: this.#head_dim, direction });
  }
}

/** (cos, sin) of each token of a batch by its position and its sequence's length: [tokens, rotary_dim / 2, 2] */
function rotationsOfTokens(rope: RopeSettings, { tokens, positions, lengths }: PackedBatch): Float32Array {
  const tables = new Map<number, Float32Array>();
  const width = rope.rotary_dim;
  const rotations = new Float32Array(tokens * width);
  for (let token = 0; token < tokens; token++) {
    const length = lengths[token]!;
    let table = tables.get(length);
    if (!table) {
      table = ropeRotations(ropeFrequencies(rope, length), length, ropeAttentionFactor(rope));
      tables.set(length, table);
    }
    rotations.set(table.subarray(positions[token]! * width, (positions[token]! + 1) * width), token * width);
  }
  return rotations;
}
