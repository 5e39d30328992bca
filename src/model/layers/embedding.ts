import type { Tensor } from "../../gpu/mod.ts";
import { recordAddRows, recordEmbedding, recordEmbeddingGrad } from "../../gpu/ops/embedding.ts";
import type { Decoder } from "../decoder.ts";
import type { LayerContext } from "./context.ts";
import type { Recording } from "./recording.ts";

/** x = scale * E[ids] (+ P[positions]) */
export class Embedding {
  constructor(private readonly context: LayerContext, private readonly decoder: Decoder) {}

  forward({ program }: Recording, x: Tensor): void {
    const { config, batch: { token_ids, positions: indices } } = this.context;
    const { embedding, positions } = this.decoder;
    for (const { first_row, rows: { value: table } } of embedding) {
      const options = { first_row, scale: config.plan.embedding_scale };
      recordEmbedding(program, { token_ids, table, x }, options);
    }
    if (positions) recordAddRows(program, { indices, table: positions.value, x });
  }

  /** Adds to the gradients of the tables that are trained. */
  backward({ program }: Recording, d_x: Tensor): void {
    const { config: { plan }, batch: { by_id, by_position } } = this.context;
    const { embedding, positions } = this.decoder;
    for (const { first_row, rows: { gradient: d_table } } of embedding) {
      if (!d_table) continue;
      recordEmbeddingGrad(program, { ...by_id, d_x, d_table }, { first_row, scale: plan.embedding_scale });
    }
    if (!positions?.gradient) return;
    const tensors = { ...by_position, d_x, d_table: positions.gradient };
    recordEmbeddingGrad(program, tensors, { distinct: (live) => live.distinct_positions });
  }
}
