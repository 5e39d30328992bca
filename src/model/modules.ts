/** What a decoder's modules and weights are called in Hugging Face's files, and their shapes. */
import type { ModelConfig } from "./config.ts";
import type { LinearName, NormName } from "./plan.ts";
import type { WeightSpec } from "./weights.ts";

/** One linear layer of the decoder: y [tokens, outputs] = x [tokens, inputs] W^T. */
export interface LinearModule {
  /** `model.layers.0.self_attn.q_proj`: what PEFT matches target_modules against; its weight is this + `.weight`. */
  readonly path: string;
  /** Number of the block. */
  readonly layer: number;
  readonly name: LinearName;
  readonly inputs: number;
  readonly outputs: number;
  /** Whether files hold its weight as [inputs, outputs]. */
  readonly transposed: boolean;
}

/** [inputs, outputs] of each linear layer that a block may have. */
function linearShapes(model: ModelConfig): Readonly<Record<LinearName, readonly [number, number]>> {
  const { hidden_size: hidden, intermediate_size: wide } = model;
  const { queries, keys } = projectionSizes(model);
  return {
    q_proj: [hidden, queries],
    k_proj: [hidden, keys],
    v_proj: [hidden, keys],
    qkv_proj: [hidden, queries + 2 * keys],
    o_proj: [queries, hidden],
    gate_proj: [hidden, wide],
    up_proj: [hidden, wide],
    gate_up_proj: [hidden, 2 * wide],
    down_proj: [wide, hidden],
  };
}

function projectionSizes({ num_attention_heads, num_key_value_heads, head_dim }: ModelConfig) {
  return { queries: num_attention_heads * head_dim, keys: num_key_value_heads * head_dim };
}

/** The entries of a record that has some of the names that it may have. */
function entriesOf<Name extends string, T>(some: Readonly<Partial<Record<Name, T>>>): [Name, T][] {
  return Object.entries(some) as [Name, T][];
}

/**
 * Every linear layer of the decoder's blocks with its shape, block by block.
 *
 * @param model The decoder
 */
export function linearModules(model: ModelConfig): LinearModule[] {
  const { names, block, layers } = model.plan;
  const shapes = linearShapes(model);
  return layers.flatMap((_, layer) =>
    entriesOf(block.linears).map(([name, { name: own, transposed }]) => {
      const [inputs, outputs] = shapes[name];
      return { path: `${names.blocks}.${layer}.${own}`, layer, name, inputs, outputs, transposed };
    })
  );
}

/** Columns of the widest projection that joins several; 0 where there is none. */
export function joinedWidth(model: ModelConfig): number {
  const { linears } = model.plan.block;
  const shapes = linearShapes(model);
  return Math.max(
    0,
    ...(["qkv_proj", "gate_up_proj"] as const).map((name) => linears[name] ? shapes[name][1] : 0),
  );
}

/** What "all-linear" means, as PEFT writes it: the last part of each path, once. */
export function linearNames(model: ModelConfig): string[] {
  return [...new Set(linearModules(model).map(({ path }) => path.slice(path.lastIndexOf(".") + 1)))];
}

/** One norm of a block. */
export interface NormModule {
  readonly path: string;
  readonly name: NormName;
  readonly size: number;
}

/** The norms of a block. */
export function normModules(model: ModelConfig, layer: number): NormModule[] {
  const { plan: { names, block }, hidden_size, head_dim } = model;
  const { queries, keys } = projectionSizes(model);
  const [q_norm, k_norm] = block.head_norms === "head" ? [head_dim, head_dim] : [queries, keys];
  const sizes: Partial<Record<NormName, number>> = { q_norm, k_norm };
  return entriesOf(block.norms).map(([name, own]) => ({
    path: `${names.blocks}.${layer}.${own}`,
    name,
    size: sizes[name] ?? hidden_size,
  }));
}

/** Every weight of the decoder by its Hugging Face name, as files hold it. */
export function weightSpecs(config: ModelConfig): WeightSpec[] {
  const { hidden_size: hidden, vocab_size, plan: { names, norm, block } } = config;
  const specs: WeightSpec[] = [];
  const add = (name: string, shape: WeightSpec["shape"], more: Partial<WeightSpec> = {}) =>
    specs.push({ name, shape, transposed: false, linear: false, ...more });
  const addNorm = (path: string, size: number) => {
    add(`${path}.weight`, [size]);
    if (norm.kind === "layer") add(`${path}.bias`, [size]);
  };
  const tied = config.tie_word_embeddings ? { or: "lm_head.weight" } : {};
  add(`${names.embedding}.weight`, [vocab_size, hidden], { table: true, ...tied });
  if (names.positions !== null) add(`${names.positions}.weight`, [config.max_position_embeddings, hidden]);
  const modules = Map.groupBy(linearModules(config), ({ layer }) => layer);
  for (const [layer, linears] of modules) {
    for (const { path, size } of normModules(config, layer)) addNorm(path, size);
    for (const { path, name, outputs, inputs, transposed } of linears) {
      const shape = transposed ? [inputs, outputs] as const : [outputs, inputs] as const;
      add(`${path}.weight`, shape, { transposed, linear: true });
      if (block.linears[name]!.bias) add(`${path}.bias`, [outputs]);
    }
  }
  addNorm(names.norm, hidden);
  if (!config.tie_word_embeddings) add("lm_head.weight", [vocab_size, hidden], { table: true });
  return specs;
}
