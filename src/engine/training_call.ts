import { type Gpu, withRoom } from "../gpu/mod.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import type { Decoder } from "../model/decoder.ts";
import type { OnLoad } from "../model/loading.ts";
import { loadTokenizer, type Tokenizer } from "../preference/tokenizer.ts";
import type { TrainContext } from "../training/context.ts";
import { train as run } from "../training/loop.ts";
import type { BaseModel, Lease, Models } from "./models.ts";
import type { TrainEvent, TrainOutcome, TrainRequest } from "./protocol.ts";
import type { OpenedDevice, RunningCall, WorkerHost } from "./worker_host.ts";

/** Runs a job on the host's device, between whose micro-batches others are served. */
export async function train(
  host: WorkerHost,
  request: TrainRequest,
  call: RunningCall<"train">,
): Promise<TrainOutcome> {
  const opened = await host.device();
  host.scheduler.hold();
  host.job = request.id;
  try {
    const config = await readModelConfig(request.model);
    const tokenizer = await loadTokenizer(request.model);
    for (const message of config.warnings) call.emit({ type: "warning", message });
    if (request.init_adapter !== null) {
      const own = await loadTokenizer(request.model, request.init_adapter);
      if (!isAlike(own, tokenizer)) call.emit({ type: "warning", message: OTHER_TOKENIZER });
    }
    using surroundings = new Surroundings(host, opened, request, call, config, tokenizer);
    return await withRoom(surroundings.makeRoom, () => run(surroundings, request));
  } finally {
    host.job = null;
    host.scheduler.release();
  }
}

const OTHER_TOKENIZER =
  "The adapter that training goes on from keeps a tokenizer or special tokens other than the model's: they are not used.";

/** Whether two tokenizers name the same ends and have the same tokens, of which a thousand are looked at. */
function isAlike(a: Tokenizer, b: Tokenizer): boolean {
  const traits = ({ bos, eosId, addBos, vocabSize, token }: Tokenizer) => {
    const every = Math.ceil(vocabSize / 1000);
    return JSON.stringify([
      bos,
      eosId,
      addBos,
      vocabSize,
      Array.from({ length: Math.ceil(vocabSize / every) }, (_, i) => token(i * every)),
    ]);
  };
  return traits(a) === traits(b);
}

/** What a run finds around it on the Worker. */
class Surroundings implements TrainContext, Disposable {
  readonly gpu: Gpu;
  readonly #models: Models;
  #base: Lease<BaseModel> | null = null;
  readonly #reportWeights: OnLoad;

  constructor(
    readonly host: WorkerHost,
    { gpu, models }: OpenedDevice,
    readonly request: TrainRequest,
    readonly call: RunningCall<"train">,
    readonly config: ModelConfig,
    readonly tokenizer: Tokenizer,
  ) {
    this.gpu = gpu;
    this.#models = models;
    this.#reportWeights = host.reportWeights(request.model);
  }

  readonly emit = (event: TrainEvent): void => this.call.emit(event);

  readonly between = async () => {
    await this.host.scheduler.turn(() => this.call.wish !== "continue");
    return this.call.wish;
  };

  readonly frozen = async (signal: AbortSignal): Promise<Decoder> => {
    const { model, settings } = this.request;
    const watch: OnLoad = (progress) => {
      signal.throwIfAborted();
      this.call.onLoad(progress);
    };
    this.#base ??= await this.#models.base(model, settings.quantization, watch, true);
    return this.#base.value.decoder;
  };

  readonly weightsChecksum = (): string | null => this.#base?.value.checksum ?? null;

  /** What full fine-tuning loads the models do not report. */
  readonly onLoad: OnLoad = (progress) => {
    this.#reportWeights(progress);
    this.call.onLoad(progress);
  };

  readonly makeRoom = (): boolean => this.#models.evict();

  readonly room = async (wanted: number): Promise<number | null> => {
    const before = await this.#free();
    if (before === null || before >= wanted || !this.makeRoom()) return before;
    await this.gpu.settle(); // what was let go of is free once the device has done with it
    return await this.#free();
  };

  [Symbol.dispose](): void {
    this.#base?.release();
  }

  async #free(): Promise<number | null> {
    const { model, settings } = this.request;
    const bytes = await this.gpu.freeBytes();
    // full fine-tuning has its own copy of the weights
    if (bytes === null || !settings.lora) return bytes;
    return bytes + await this.#models.baseBytes(model, settings.quantization);
  }
}
