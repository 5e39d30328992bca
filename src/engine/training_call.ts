import { type Gpu, withRoom } from "../gpu/mod.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import type { Decoder } from "../model/decoder.ts";
import type { LoadProgress, OnLoad } from "../model/loading.ts";
import { Interrupted } from "../errors.ts";
import { pause, type TrainingHost } from "../training/host.ts";
import { train as run } from "../training/job.ts";
import { TokenSignal } from "../training/token_signal.ts";
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
    for (const message of config.warnings) call.emit({ type: "warning", message });
    using own = new DeviceHost(host, opened, request, call, config);
    const outcome = await withRoom(() => own.makeRoom(), () => run(own, request));
    return { ...outcome, device_share: host.scheduler.trained };
  } finally {
    host.job = null;
    host.scheduler.release();
  }
}

/** Milliseconds between two turns of others while rows are read. */
const WAIT_MS = 20;

/** What a run finds around it on the Worker. */
class DeviceHost implements TrainingHost, Disposable {
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
  ) {
    this.gpu = gpu;
    this.#models = models;
    this.#reportWeights = host.reportWeights(request.model);
  }

  emit(event: TrainEvent): void {
    this.call.emit(event);
  }

  async between() {
    await this.host.scheduler.turn(() => this.call.wish !== "continue");
    return this.call.wish;
  }

  async tokenise(_settings: unknown, onLarge: () => void): Promise<void> {
    if (this.request.tokens === undefined) return;
    const signal = new TokenSignal(this.request.tokens);
    let large = false;
    for (let { state } = signal; state !== "ready"; { state } = signal) {
      if (state === "failed") throw new Interrupted("cancel"); // why is told by whoever reads them
      if (state === "large" && !large) onLarge();
      large ||= state === "large";
      await pause(this);
      await signal.changed(state, WAIT_MS);
    }
  }

  async loadBase(signal: AbortSignal): Promise<Decoder> {
    const { model, settings } = this.request;
    const watch: OnLoad = (progress) => {
      signal.throwIfAborted();
      this.call.onLoad(progress);
    };
    this.#base ??= await this.#models.base(model, settings.quantization, watch, true);
    return this.#base.value.decoder;
  }

  baseChecksum(): string | null {
    return this.#base?.value.checksum ?? null;
  }

  /** What full fine-tuning loads the models do not report. */
  onLoad(progress: LoadProgress): void {
    this.#reportWeights(progress);
    this.call.onLoad(progress);
  }

  makeRoom(): boolean {
    return this.#models.evict();
  }

  async room(wanted: number): Promise<number | null> {
    const before = await this.#free();
    if (before === null || before >= wanted || !this.makeRoom()) return before;
    await this.gpu.settle(); // what was evicted is free once the device has done with it
    return await this.#free();
  }

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
