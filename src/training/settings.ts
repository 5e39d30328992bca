import type { Quantization } from "../model/quantization.ts";
import type { Method } from "../objective/method.ts";
import type { EncodeSettings } from "../preference/encode.ts";

/** LoRA as PEFT has it: W x + scale B A dropout(x); scale is alpha / r, or alpha / sqrt(r) with rsLoRA. */
export interface LoraSettings {
  readonly r: number;
  readonly alpha: number;
  readonly dropout: number;
  /** Module names by suffix (`q_proj`), or every linear layer of the blocks. */
  readonly target_modules: readonly string[] | "all-linear";
  readonly use_rslora: boolean;
  /** Modules by the ends of their paths that are trained in full beside the factors. */
  readonly modules_to_save: readonly string[];
  /** Whether a head tied to the embedding stays so where modules_to_save names one of them. */
  readonly ensure_weight_tying: boolean;
  /** The adapter that training goes on from, as the user named it; null: a fresh one. */
  readonly init_adapter: string | null;
}

/** Everything a training run depends on, beside the model and the rows; every default is filled in. */
export interface TrainingSettings extends EncodeSettings {
  readonly method: Method;
  /** Jinja source in place of the model's own. Jobs of earlier versions have no such setting. */
  readonly chat_template?: string | null;
  /** null: full fine-tuning. */
  readonly lora: LoraSettings | null;
  /** How the frozen base's linear layers are held; null: as their file has them, or trained themselves. */
  readonly quantization: Quantization | null;
  readonly learning_rate: number;
  readonly lr_scheduler_type: "cosine" | "linear" | "constant" | "constant_with_warmup";
  readonly warmup_ratio: number;
  readonly num_train_epochs: number;
  /** Optimiser steps; null: as many as the epochs give. */
  readonly max_steps: number | null;
  /** Pairs (rows) an optimiser step, reached by accumulating micro-batches. */
  readonly batch_size: number;
  /** Token budget of one packed micro-batch; null: as memory lets it. */
  readonly micro_batch_tokens: number | null;
  readonly weight_decay: number;
  readonly adam_beta1: number;
  readonly adam_beta2: number;
  readonly adam_epsilon: number;
  /** Global gradient norm above which gradients are scaled down; 0: never. */
  readonly max_grad_norm: number;
  readonly seed: number;
  /** Optimiser steps between checkpoints; 0: only at the end. */
  readonly save_steps: number;
  /** Optimiser steps between evaluations; 0: only at the end. */
  readonly eval_steps: number;
  readonly logging_steps: number;
  /** Recompute each block's activations in the backward pass instead of storing them; auto: where memory asks for it. */
  readonly activation_recomputation: boolean | "auto";
}
