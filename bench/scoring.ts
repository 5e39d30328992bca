import { startEngine } from "../src/engine/client.ts";
import type { Engine } from "../src/engine/protocol.ts";
import { alternate, type BenchRow, median, medianRatio } from "./_rows.ts";

const MODEL = decodeURIComponent(new URL("../examples/tiny-llama", import.meta.url).pathname);
const REQUESTS = 32;
const ROUNDS = 15;

/** Many small requests at one time beside one after another. */
export async function benchScoring(device: "gpu" | "software"): Promise<BenchRow[]> {
  const engine = await startEngine({ device, allowSoftware: device === "software" });
  try {
    return [await concurrentRequests(engine)];
  } finally {
    await engine.stop();
  }
}

async function concurrentRequests(engine: Engine): Promise<BenchRow> {
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
  const { serial, together } = await alternate(ROUNDS, {
    serial: async () => {
      for (const i of requests) await one(i);
    },
    together: () => Promise.all(requests.map(one)),
  });
  return {
    name: `${REQUESTS} requests of one item at one time beside one after another`,
    value: medianRatio(together, serial),
    unit: "of the time",
    detail: `examples/tiny-llama, two candidates each; ${median(together).toFixed(0)} and ${
      median(serial).toFixed(0)
    } ms, medians of ${ROUNDS} alternating rounds`,
  };
}
