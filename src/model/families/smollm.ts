import { type Fields, isAbsent, onlyActivation, readCount, refuse } from "../_fields.ts";
import {
  flaggedBiases,
  llamaLinears,
  llamaPlan,
  readSwitchedWindow,
  readWholeRope,
  slidingLayers,
} from "./_common.ts";
import type { Family, Sizes } from "./family.ts";

/** SmolLM3: a Llama some of whose blocks are not rotated. */
export const smollm3: Family = {
  model_type: "smollm3",
  architecture: "SmolLM3ForCausalLM",
  defaults: {
    num_key_value_heads: 4,
    max_position_embeddings: 32_768,
    tie_word_embeddings: true,
    rope_theta: 2_000_000,
    no_rope_layer_interval: 4,
  },
  plan: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    const rotated = rotatedLayers(json, sizes);
    return {
      ...llamaPlan(sizes, readWholeRope(json, sizes), { linears: llamaLinears(flaggedBiases(json, true)) }),
      layers: slidingLayers(
        json,
        sizes,
        readSwitchedWindow(json),
        (layer) => !rotated[layer],
        (layer) => rotated[layer] ? 0 : null,
      ),
    };
  },
};

/** `no_rope_layers`, which has a 1 for each block that is rotated; where it is left out every n-th is not. */
function rotatedLayers(json: Fields, { num_hidden_layers }: Sizes): boolean[] {
  const interval = readCount(json, "no_rope_layer_interval");
  const given = json.no_rope_layers;
  return Array.from({ length: num_hidden_layers }, (_, layer) => {
    if (isAbsent(given)) return (layer + 1) % interval !== 0;
    const rotated: unknown = Array.isArray(given) ? given[layer] : undefined;
    if (rotated !== 0 && rotated !== 1) {
      refuse("no_rope_layers", given, `0 or 1 for each of ${num_hidden_layers} layers`);
    }
    return rotated === 1;
  });
}
