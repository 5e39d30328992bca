import { Interrupted } from "../errors.ts";
import type { Gpu } from "../gpu/mod.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Decoder } from "../model/decoder.ts";
import type { LoadProgress } from "../model/loading.ts";
import type { TrainingSettings } from "../api/settings.ts";
import type { TrainEvent } from "./request.ts";

/** Whoever runs a training job: it owns the device and the models on it, and serves others between micro-batches. */
export interface TrainingHost {
  readonly gpu: Gpu;
  readonly config: ModelConfig;
  /**
   * Waits until the job's rows are tokens in its folder.
   *
   * @param settings that they become tokens by
   * @param onLarge called where that turns out to take a while
   * @throws {Interrupted} where the run is to end
   */
  tokenise(settings: TrainingSettings, onLarge: () => void): Promise<void>;
  /**
   * Loads the base model's weights, for a LoRA run; full fine-tuning loads its own.
   *
   * @param signal ends the loading, with its reason as the error
   */
  loadBase(signal: AbortSignal): Promise<Decoder>;
  /** CRC-32 of the weights that `loadBase` has loaded; null where another call had loaded them. */
  baseChecksum?(): string | null;
  /** Called between two pieces while full fine-tuning loads its weights; may throw {@link Interrupted}, as `loadBase`. */
  onLoad(progress: LoadProgress): void;
  emit(event: TrainEvent): void;
  /** Called between two micro-batches, and every few milliseconds while rows are read: serves what waits, says how to go on. */
  between(): Promise<"continue" | "cancel" | "stop">;
  /**
   * Bytes that the run may take, its base model's weights among them, after room was made where `wanted` is more; null
   * where the device does not tell.
   */
  room(wanted: number): Promise<number | null>;
  /** Evicts what nobody uses. @returns whether there was anything */
  makeRoom(): boolean;
}

/** Lets others have the device. @throws {Interrupted} where the run is to end */
export async function pause(host: TrainingHost): Promise<void> {
  const next = await host.between();
  if (next !== "continue") throw new Interrupted(next);
}
