import type { Gpu } from "../src/gpu/mod.ts";
import { startEngine } from "../src/engine/client.ts";
import type { Engine } from "../src/engine/protocol.ts";
import { contest, workContender } from "./_contest.ts";
import { type BenchRow, type Findings, median, medianRatio, type Settings } from "./_rows.ts";

const MODEL = decodeURIComponent(new URL("../examples/tiny-llama", import.meta.url).pathname);
const REQUESTS = 32;

/** Many small requests at one time beside one after another. */
export async function benchScoring(gpu: Gpu, settings: Settings): Promise<Findings> {
  const device = gpu.software ? "software" : "gpu";
  const engine = await startEngine({ device, allowSoftware: device === "software" });
  try {
    return { rows: [await concurrentRequests(engine, settings)] };
  } finally {
    await engine.stop();
  }
}

async function concurrentRequests(engine: Engine, settings: Settings): Promise<BenchRow> {
  const requests = Array.from({ length: REQUESTS }, (_, i) => i);
  const one = (i: number) =>
    Array.fromAsync(engine.score({
      model: MODEL,
      adapter: null,
      quantization: null,
      beta: 2,
      token_logprobs: false,
      items: [{ prompt: `Which is larger, ${i} or 74?`, candidates: [" It is 74.", ` It is ${i}.`] }],
    }));
  const { serial, together } = await contest(settings, {
    serial: workContender(async () => {
      for (const i of requests) await one(i);
    }),
    together: workContender(() => Promise.all(requests.map(one))),
  });
  return {
    name: `${REQUESTS} requests of one item at one time beside one after another`,
    value: medianRatio(together, serial),
    unit: "of the time",
    shown: true,
    detail: `examples/tiny-llama, two candidates each; ${median(together).toFixed(0)} and ${
      median(serial).toFixed(0)
    } ms, medians of ${settings.rounds} alternating rounds`,
  };
}
