/// <reference lib="deno.worker" />
/** The Worker that owns the GPU. WebGPU's waits block the thread they are called on, so nothing else lives here. */
import { Gpu, withRoom } from "../gpu/mod.ts";
import { Interrupted } from "../training/context.ts";
import { CONTROL, type FromWorker, toPlainError, type ToWorker, type WorkerOptions } from "./_messages.ts";
import { readModelConfig } from "../model/config.ts";
import type { OnLoad } from "../model/loading.ts";
import { loadTokenizer } from "../preference/tokenizer.ts";
import { type BaseModel, type Lease, Models } from "./models.ts";
import type { Scorer } from "../scoring/scorer.ts";
import type {
  DeviceReport,
  LoadProgress,
  ScoredItem,
  ScoredSequence,
  ScoringWeights,
  TrainEvent,
  TrainOutcome,
  TrainRequest,
} from "./protocol.ts";
import { Scheduler } from "./scheduler.ts";
import { useFastestTiles } from "./tuning.ts";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const scheduler = new Scheduler();
let control: Int32Array<ArrayBufferLike> = new Int32Array(CONTROL.words);
let options: WorkerOptions = { device: "auto" };
let tuningFolder: string | null = null;
let opened: Promise<{ gpu: Gpu; models: Models }> | null = null;

scope.onmessage = ({ data }: MessageEvent<ToWorker>) => void handle(data);

async function handle(message: ToWorker): Promise<void> {
  switch (message.type) {
    case "open":
      ({ options, tuningFolder } = message);
      control = new Int32Array(message.control);
      return await device().then(
        ({ gpu }) => post({ type: "opened", report: reportOf(gpu) }),
        (error) => post({ type: "failed", id: null, error: toPlainError(error) }),
      );
    case "score":
      return scheduler.add(
        message.id,
        scored(message.id, message.request, (scorer) => scorer.score(message.request)),
      );
    case "sequences":
      return scheduler.add(
        message.id,
        scored(message.id, message.request, (scorer) => scorer.scoreSequences(message.request)),
      );
    case "abandon":
      return scheduler.remove(message.id);
    case "train":
      return await answer(message.id, () => trained(message.id, message.request));
    case "close":
      // a process that ends while a device is open may crash in the driver
      (await opened?.catch(() => null))?.gpu.close();
      post({ type: "closed" });
      return scope.close();
    case "memory":
      return await answer(message.id, async () => {
        const { gpu } = await device();
        const { memory } = gpu;
        const free_bytes = await gpu.freeBytes();
        return { bytes: memory.bytes, peak_bytes: memory.peak, free_bytes, by_name: memory.byName() };
      });
  }
}

/** Scores in turns of at most one batch each; the answer goes out as items are finished. */
async function* scored(
  id: number,
  weights: ScoringWeights,
  score: (scorer: Scorer) => AsyncGenerator<(ScoredItem | ScoredSequence)[]>,
): AsyncGenerator<void> {
  try {
    const { models } = await device();
    const tell = limited((progress) => post({ type: "loading", id, progress }));
    const scorer = await models.scorer(weights, (progress) => {
      if (!scheduler.has(id) || Atomics.load(control, CONTROL.stop)) throw new Interrupted("stop");
      tell(progress);
    });
    try {
      for await (const items of score(scorer.value)) {
        if (items.length > 0) post({ type: "items", id, items });
        yield;
      }
    } finally {
      scorer.release();
    }
    post({ type: "done", id, value: null });
  } catch (error) {
    await reopenAfterFault();
    post({ type: "failed", id, error: toPlainError(error) });
  }
}

async function trained(id: number, request: TrainRequest): Promise<TrainOutcome> {
  const { gpu, models } = await device();
  const asked = () => {
    if (Atomics.load(control, CONTROL.stop)) return "stop";
    return Atomics.load(control, CONTROL.cancel) ? "cancel" : "continue";
  };
  const between = async () => {
    await scheduler.turn();
    return asked();
  };
  const emit = (event: TrainEvent) => post({ type: "event", id, event });
  const { model, settings } = request;
  const makeRoom = () => models.evict();
  const tell = limited((progress) => emit({ type: "loading", ...progress }));
  const onLoad: OnLoad = (progress) => {
    const how = asked();
    if (how !== "continue") throw new Interrupted(how);
    tell(progress);
  };
  const report = reportWeights(model);
  let base: Lease<BaseModel> | null = null;
  const room = async (wanted: number) => {
    const free = async () => {
      const bytes = await gpu.freeBytes();
      // full fine-tuning has its own copy of the weights
      return bytes === null || !settings.lora
        ? bytes
        : bytes + await models.baseBytes(model, settings.quantization);
    };
    const before = await free();
    if (before === null || before >= wanted || !makeRoom()) return before;
    await gpu.settle(); // what was let go of is free once the device has done with it
    return await free();
  };
  scheduler.hold();
  try {
    // Loaded by the first job: a score must not wait for it.
    const { train } = await import("../training/loop.ts");
    const config = await readModelConfig(model);
    const tokenizer = await loadTokenizer(model);
    const context = {
      gpu,
      config,
      tokenizer,
      frozen: async (signal: AbortSignal) => {
        const watch: OnLoad = (progress) => {
          signal.throwIfAborted();
          onLoad(progress);
        };
        base ??= await models.base(model, settings.quantization, watch, tokenizer);
        return base.value.decoder;
      },
      // what full fine-tuning loads `models` does not report
      onLoad: (progress: LoadProgress) => {
        report(progress);
        onLoad(progress);
      },
      emit,
      between,
      room,
      makeRoom,
    };
    return await withRoom(makeRoom, () => train(context, request));
  } finally {
    (base as Lease<BaseModel> | null)?.release();
    scheduler.release();
  }
}

/** Tells the main thread when a folder's weights begin to be read and when they have been. */
function reportWeights(model: string): OnLoad {
  let start = 0;
  return ({ bytes, total_bytes }) => {
    const now = performance.now();
    if (bytes === 0) {
      start = now;
      post({ type: "weights", model, bytes: total_bytes, seconds: null });
    }
    if (bytes === total_bytes) {
      post({ type: "weights", model, bytes: total_bytes, seconds: (now - start) / 1000 });
    }
  };
}

/** Milliseconds between two reports of progress. */
const REPORT_MS = 200;

/** Passes the first report on, the last, and of those between a few a second. */
function limited(report: OnLoad): OnLoad {
  let next = 0;
  return (progress) => {
    const now = performance.now();
    if (now < next && progress.bytes < progress.total_bytes) return;
    next = now + REPORT_MS;
    report(progress);
  };
}

async function answer(
  id: number,
  work: () => Promise<Extract<FromWorker, { type: "done" }>["value"]>,
): Promise<void> {
  try {
    post({ type: "done", id, value: await work() });
  } catch (error) {
    await reopenAfterFault();
    post({ type: "failed", id, error: toPlainError(error) });
  }
}

function device(): Promise<{ gpu: Gpu; models: Models }> {
  opened ??= Gpu.open(options).then((gpu) => {
    if (tuningFolder !== null) void useFastestTiles(gpu, tuningFolder, () => scheduler.busy);
    return { gpu, models: new Models(gpu, reportWeights, options.promptCacheBytes) };
  });
  return opened;
}

/**
 * A device that has faulted answers nothing more and is opened anew. Where that fails this thread ends by the error: no
 * later request is to be blamed for it.
 */
async function reopenAfterFault(): Promise<void> {
  const before = opened;
  const current = await before?.catch(() => null);
  try {
    current?.gpu.check();
    if (current) return;
  } catch {
    current?.gpu.close();
  }
  if (opened === before) opened = null; // else another request has opened it meanwhile
  if (current) await device();
}

function post(message: FromWorker): void {
  scope.postMessage(message);
}

function reportOf(gpu: Gpu): DeviceReport {
  const { vendor, architecture, device, description } = gpu.adapterInfo;
  const limits: Record<string, number> = {};
  for (const name in gpu.device.limits) {
    const value = (gpu.device.limits as unknown as Record<string, unknown>)[name];
    if (typeof value === "number") limits[name] = value;
  }
  return {
    kind: gpu.software ? "software" : "gpu",
    vendor,
    architecture,
    description: description || device,
    limits,
    features: [...gpu.features].sort(),
    subgroups: gpu.subgroupSize > 0,
    f16: gpu.features.has("shader-f16"),
    matmul: gpu.matmul,
  };
}
