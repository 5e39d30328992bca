/** What the Worker does for each call of the table. */
import type { Gpu } from "../gpu/mod.ts";
import type { Scorer } from "../scoring/scorer.ts";
import type { Calls, DeviceReport, ScoringWeights } from "./protocol.ts";
import type { Handlers, RunningCall, WorkerHost } from "./worker_host.ts";

/** A handler a call. */
export const handlers: Handlers = {
  device: async (host) => reportOf((await host.device()).gpu),
  memory: async (host) => {
    const { gpu } = await host.device();
    const { memory } = gpu;
    const free_bytes = await gpu.freeBytes();
    return { bytes: memory.bytes, peak_bytes: memory.peak, free_bytes, by_name: memory.byName() };
  },
  load: (host, request, call) => inTurns(host, request, call, async function* () {}),
  score_tokens: (host, request, call) => inTurns(host, request, call, (scorer) => scorer.score(request)),
  sequence_tokens: (host, request, call) =>
    inTurns(host, request, call, (scorer) => scorer.scoreSequences(request)),
  train: async (host, request, call) => {
    // loaded by the first job: a score must not wait for it
    const { train } = await import("./training_call.ts");
    return await train(host, request, call);
  },
};

/** Scores in turns of at most one batch each; items go out as they are finished. */
function inTurns<Name extends "load" | "score_tokens" | "sequence_tokens">(
  host: WorkerHost,
  weights: ScoringWeights,
  call: RunningCall<Name>,
  score: (scorer: Scorer) => AsyncGenerator<Calls[Name]["item"][]>,
): Promise<null> {
  const { promise, resolve, reject } = Promise.withResolvers<null>();
  async function* turns(): AsyncGenerator<void> {
    try {
      const { models } = await host.device();
      const scorer = await models.scorer(weights, call.onLoad);
      try {
        for await (const items of score(scorer.value)) {
          call.emit(...items);
          if (call.ahead) host.scheduler.pause(call.id, () => !call.ahead);
          yield;
        }
      } finally {
        scorer.release();
      }
      resolve(null);
    } catch (error) {
      await host.reopenAfterFault(); // before anyone else's turn
      reject(error);
    }
  }
  call.interrupted.signal.addEventListener("abort", () => {
    host.scheduler.remove(call.id);
    resolve(null);
  });
  host.scheduler.add(call.id, turns());
  return promise;
}

function reportOf(gpu: Gpu): DeviceReport {
  const { vendor, architecture, device, description } = gpu.adapter.info;
  return {
    kind: gpu.software ? "software" : "gpu",
    vendor,
    architecture,
    description: description || device,
    limits: gpu.limits,
    features: [...gpu.adapter.features].sort(),
    subgroups: gpu.adapter.subgroupSize > 0,
    f16: gpu.adapter.features.has("shader-f16"),
    matmul: gpu.policy.matmul,
  };
}
