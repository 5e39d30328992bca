import type { ModelConfig } from "./config.ts";
import type { AdapterConfig } from "./adapter_config.ts";
import { adapterRank, targetedModules } from "./adapter_modules.ts";
import type { Linear } from "./layers/linear.ts";
import type { Norm } from "./layers/norm.ts";
import { linearModules, normModules } from "./modules.ts";
import type { Parameter, ParameterSpec } from "./parameters.ts";
import type { LinearName, NormName } from "./plan.ts";
import { HEAD_WEIGHT, type SavedModules } from "./saved_modules.ts";

/** The weights of one block, as far as the family has them. */
export interface Block {
  readonly linears: Readonly<Partial<Record<LinearName, Linear>>>;
  readonly norms: Readonly<Partial<Record<NormName, Norm>>>;
}

/** Neighbouring rows of a vocabulary table; a table larger than one binding is split into several runs. */
export interface TableRun {
  /** The token id of its first row. */
  readonly first_row: number;
  /** [rows of the run, hidden] */
  readonly rows: Parameter;
}

/** Weights on the GPU by their names in the files. */
export type WeightTables = ReadonlyMap<string, readonly TableRun[]>;

/** A decoder on the GPU: x = E[ids] (+ P[positions]); per block x += attention(norm(x)), x += mlp(norm(x)); head(norm(x)). */
export interface Decoder {
  readonly config: ModelConfig;
  /** The runs of E, by rising ids. */
  readonly embedding: readonly TableRun[];
  /** Learned positions, [max_position_embeddings, hidden]. */
  readonly positions: Parameter | null;
  /** From the embedding up. */
  readonly blocks: readonly Block[];
  /** The last norm, [hidden]. */
  readonly norm: Norm;
  /** The embedding's own runs where the two are tied. */
  readonly head: readonly TableRun[];
  /** All of the above by name, the head among them even where it is tied. */
  readonly weights: WeightTables;
}

/** The decoder with the weights of an adapter's saved modules in place of its own. */
export function withSaved(
  decoder: Decoder,
  weights: WeightTables,
  { tied }: Pick<SavedModules, "tied">,
): Decoder {
  const embedding = weights.get(`${decoder.config.plan.names.embedding}.weight`);
  const head = tied && embedding ? [[HEAD_WEIGHT, embedding] as const] : [];
  return assembleDecoder(decoder.config, new Map([...decoder.weights, ...weights, ...head]));
}

/**
 * The decoder with an adapter on it, sharing the base weights.
 *
 * @param lora Parameters named `<module path>.lora_A` and `.lora_B`
 * @param scale As adapterScale() has it; or each module's, by its path
 * @param dropout Rate in training; 0 when scoring
 */
export function withLora(
  decoder: Decoder,
  lora: (name: string) => Parameter | undefined,
  scale: number | ((path: string) => number),
  dropout: number,
): Decoder {
  const blocks = decoder.blocks.map((block) => ({ ...block, linears: { ...block.linears } }));
  linearModules(decoder.config).forEach(({ path, layer, name }, stream) => {
    const a = lora(`${path}.lora_A`);
    const b = lora(`${path}.lora_B`);
    const { linears } = blocks[layer]!;
    const own = typeof scale === "number" ? scale : scale(path);
    linears[name] = { ...linears[name]!, lora: a && b ? { a, b, scale: own, dropout, stream } : null };
  });
  return { ...decoder, blocks };
}

/** The factors of a LoRA adapter that is to be trained: A [r, inputs], B [outputs, r] a module. */
export function loraSpecs(
  config: ModelConfig,
  adapter:
    & Pick<AdapterConfig, "r" | "rank_pattern" | "target_modules">
    & Partial<Pick<AdapterConfig, "modules_to_save">>,
): ParameterSpec[] {
  const modules = targetedModules(config, adapter.target_modules, adapter.modules_to_save);
  return modules.flatMap(({ path, inputs, outputs }) => {
    const r = adapterRank(adapter, path);
    return [
      { name: `${path}.lora_A`, shape: [r, inputs], decay: true },
      { name: `${path}.lora_B`, shape: [outputs, r], decay: true },
    ];
  });
}

/** A decoder of weights that are on the device, by their names in the files. */
export function assembleDecoder(config: ModelConfig, weights: WeightTables): Decoder {
  const { names } = config.plan;
  const one = (name: string): Parameter => weights.get(`${name}.weight`)![0]!.rows;
  const biasOf = (name: string): Parameter | null => weights.get(`${name}.bias`)?.[0]?.rows ?? null;
  const normOf = (name: string): Norm => ({ weight: one(name), bias: biasOf(name) });
  const modules = Map.groupBy(linearModules(config), ({ layer }) => layer);
  const blocks = Array.from(modules, ([layer, linears]): Block => ({
    linears: Object.fromEntries(linears.map(({ name, path }) => {
      const linear: Linear = { weight: one(path), bias: biasOf(path), lora: null };
      return [name, linear];
    })),
    norms: Object.fromEntries(normModules(config, layer).map(({ name, path }) => [name, normOf(path)])),
  }));
  return {
    config,
    embedding: weights.get(`${names.embedding}.weight`)!,
    positions: names.positions === null ? null : one(names.positions),
    blocks,
    norm: normOf(names.norm),
    head: weights.get(HEAD_WEIGHT)!,
    weights,
  };
}
