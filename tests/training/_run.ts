/** A run on a tiny model without the service around it. */
import { join } from "node:path";
import { Gpu, type GpuOptions } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { loadDecoder, type LoadedDecoder } from "../../src/model/loading.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import type { Objective } from "../../src/objective/objective.ts";
import type { TrainingHost } from "../../src/training/host.ts";
import { train } from "../../src/training/job.ts";
import type { TrainingSettings } from "../../src/api/settings.ts";
import { writeTokens } from "../../src/training/write_tokens.ts";
import type { Dataset, TrainEvent, TrainOutcome, TrainRequest } from "../../src/training/request.ts";
import { datasetOf, settingsOf } from "../helpers/settings.ts";
import { plainRows, type TinyModelOptions, writeTinyModel } from "../helpers/tiny_model.ts";

export interface RunOptions {
  readonly gpu?: Omit<GpuOptions, "device">;
  readonly model?: TinyModelOptions;
  /** Settings by the names of `POST /train`. */
  readonly spec?: Readonly<Record<string, unknown>>;
  /** Goes on in a folder that is there; otherwise one that is removed at the end. */
  readonly directory?: string;
  /** What no spec may ask for. */
  readonly settings?: Partial<TrainingSettings>;
  readonly dataset?: Dataset;
  readonly acceptChanges?: boolean;
  /** One that no request can name. */
  readonly objective?: Objective;
  /** Called once the model is written. */
  readonly prepare?: (model: string) => Promise<void>;
  readonly onEvent?: (event: TrainEvent, gpu: Gpu) => void;
  readonly context?: Partial<Pick<TrainingHost, "between" | "room">>;
}

/** Trains on eight rows. @returns how it ended, and everything it said */
export async function runTiny(
  { gpu: options, model: modelOptions, spec, directory, onEvent, context, ...more }: RunOptions,
): Promise<{ readonly outcome: TrainOutcome; readonly events: readonly TrainEvent[] }> {
  const folder = directory ?? await Deno.makeTempDir({ prefix: "simpo-" });
  const model = await writeTinyModel(join(folder, "model"), modelOptions);
  await more.prepare?.(model);
  const gpu = await Gpu.open({ device: "auto", ...options });
  const events: TrainEvent[] = [];
  const settings = { ...settingsOf({ max_steps: 1, batch_size: 8, ...spec }), ...more.settings };
  let base: LoadedDecoder | null = null;
  let loaded: string | null = null;
  try {
    const config = await readModelConfig(model);
    const emit = (event: TrainEvent) => {
      events.push(event);
      onEvent?.(event, gpu);
    };
    const request: TrainRequest = {
      id: "job",
      model,
      dataset: more.dataset ?? datasetOf(plainRows(8)),
      eval_dataset: null,
      settings,
      init_adapter: null,
      directory: folder,
      ...more.acceptChanges && { accept_changes: true },
    };
    const outcome = await train(
      {
        gpu,
        config,
        tokenise: tokenising(request, emit),
        loadBase: async () => {
          using checkpoint = await WeightFiles.open(model);
          await checkpoint.startSums();
          const { quantization } = settings;
          base = await loadDecoder(gpu, checkpoint, config, { trainable: false, quantization });
          loaded = checkpoint.checksum;
          return base.decoder;
        },
        baseChecksum: () => loaded,
        onLoad: () => {},
        emit,
        between: () => Promise.resolve("continue"),
        room: () => gpu.freeBytes(),
        makeRoom: () => false,
        ...context,
      },
      request,
      more.objective,
    );
    return { outcome, events };
  } finally {
    (base as LoadedDecoder | null)?.free();
    const left = gpu.memory.byName();
    gpu.close();
    if (directory === undefined) await Deno.remove(folder, { recursive: true });
    if (Object.keys(left).length > 0) {
      // deno-lint-ignore no-unsafe-finally -- whatever else went wrong, this is what the tests are about
      throw new Error(`The run left ${JSON.stringify(left)}.`);
    }
  }
}

/** Makes a job's rows tokens as the engine does, on this thread. */
export function tokenising(
  request: TrainRequest,
  emit: TrainingHost["emit"] = () => {},
): TrainingHost["tokenise"] {
  return async (settings, onLarge) => {
    const [config, tokenizer] = [await readModelConfig(request.model), await loadTokenizer(request.model)];
    const pause = () => Promise.resolve();
    await writeTokens({ config, tokenizer, emit, pause }, request, settings, onLarge);
  };
}
