import { readFile } from "node:fs/promises";
import type { LoraSettings, TrainingSettings } from "../../src/api/settings.ts";
import { VALUES } from "./values.ts";

/** Models that `make_trajectory.py` trained, and how. */
export const TRAJECTORIES = ["llama_full", "llama_lora", "qwen3_full", "qwen3_lora", "qwen3_rslora"] as const;

/** One of {@link TRAJECTORIES}. */
export type TrajectoryName = typeof TRAJECTORIES[number];

/** Tokens of a prompt and one response, as TRL made them. */
export interface TrajectoryTokens {
  readonly ids: readonly number[];
  /** Index of the first token that enters the loss. */
  readonly scored_from: number;
}

/** What TRL logged for one optimiser step: means over its rows, before the step changes the weights. */
export interface TrajectoryStep {
  /** Indices in `rows`, from 0. */
  readonly rows: readonly number[];
  readonly loss: number;
  /** Before clipping. */
  readonly grad_norm: number;
  /** Of this step; 0 in the first one of a warm-up. */
  readonly learning_rate: number;
  readonly "rewards/chosen": number;
  readonly "rewards/rejected": number;
  readonly "rewards/accuracies": number;
  readonly "rewards/margins": number;
  readonly "logps/chosen": number;
  readonly "logps/rejected": number;
}

/** The contents of a trajectory's file. */
export interface Trajectory {
  /** Settings that TRL ran with, by this worker's names. */
  readonly settings:
    & Pick<
      TrainingSettings,
      | "method"
      | "learning_rate"
      | "lr_scheduler_type"
      | "warmup_ratio"
      | "num_train_epochs"
      | "max_steps"
      | "batch_size"
      | "weight_decay"
      | "adam_beta1"
      | "adam_beta2"
      | "adam_epsilon"
      | "max_grad_norm"
      | "max_length"
      | "max_prompt_length"
      | "prompt_boundary"
    >
    & { readonly lora: Partial<LoraSettings> | null };
  /** Trained parameters without weight decay, by PyTorch's names. */
  readonly undecayed: readonly string[];
  /** Preference rows as users write them. */
  readonly rows: readonly unknown[];
  /** Per row. */
  readonly tokens: readonly { readonly chosen: TrajectoryTokens; readonly rejected: TrajectoryTokens }[];
  readonly steps: readonly TrajectoryStep[];
  /** After the last step, over all rows: `eval_loss`, `eval_rewards/chosen`, ... */
  readonly evaluation: Readonly<Record<string, number>>;
}

/** Reads a trajectory's file. */
export async function readTrajectory(name: TrajectoryName): Promise<Trajectory> {
  return JSON.parse(await readFile(`${VALUES}/trajectory/${name}.json`, "utf8"));
}

/** Folder of the model that a trajectory starts from; `adapter` in it is LoRA's initial A and B. */
export function trajectoryModel(name: TrajectoryName): string {
  return `${VALUES}/trajectory/${name.split("_")[0]}`;
}
