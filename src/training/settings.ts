import type { EncodeSettings } from "../preference/encode.ts";

/** SimPO: -logsigmoid(beta (s_chosen - s_rejected) - gamma), arXiv 2405.14734. */
export interface SimpoMethod {
  readonly type: "simpo";
  /** Scale of the implicit reward. */
  readonly beta: number;
  /** Target reward margin, absolute (the authors' `gamma_beta_ratio` times beta). */
  readonly gamma: number;
  readonly loss_type: "sigmoid" | "hinge";
  readonly label_smoothing: number;
  /** Weight of the chosen responses' token-mean cross-entropy, added to the loss. */
  readonly sft_weight: number;
}

/** Plain likelihood training: token-mean cross-entropy of one completion a row. */
export interface SftMethod {
  readonly type: "sft";
}

export type Method = SimpoMethod | SftMethod;

/** LoRA as PEFT has it: W x + (alpha / r) B A dropout(x). */
export interface LoraSettings {
  readonly r: number;
  readonly alpha: number;
  readonly dropout: number;
  /** Module names by suffix (`q_proj`), or every linear layer of the blocks. */
  readonly target_modules: readonly string[] | "all-linear";
}

/** Everything a training run depends on, beside the model and the rows; every default is filled in. */
export interface TrainingSettings extends EncodeSettings {
  readonly method: Method;
  /** null: full fine-tuning. */
  readonly lora: LoraSettings | null;
  readonly learning_rate: number;
  readonly lr_scheduler_type: "cosine" | "linear" | "constant" | "constant_with_warmup";
  readonly warmup_ratio: number;
  readonly num_train_epochs: number;
  /** Optimiser steps; null: as many as the epochs give. */
  readonly max_steps: number | null;
  /** Pairs (rows) an optimiser step, reached by accumulating micro-batches. */
  readonly batch_size: number;
  /** Token budget of one packed micro-batch. */
  readonly micro_batch_tokens: number;
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
  /** Recompute each block's activations in the backward pass instead of storing them. */
  readonly activation_recomputation: boolean;
}
