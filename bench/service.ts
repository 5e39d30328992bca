import { Client } from "../src/cli/_client.ts";
import { type ServerProcess, startServer } from "../src/cli/_server_process.ts";
import type { Gpu } from "../src/gpu/mod.ts";
import { pythonFirstScore } from "./_python.ts";
import { type Findings, median, medianRatio, reach, type Settings } from "./_rows.ts";

const MODEL = "examples/tiny-llama";
const PROBES = 400;
const SCORES = 20;

/** Process start to the first score, and how the service answers while it trains. */
export async function benchService(gpu: Gpu, { extent, rounds, python }: Settings): Promise<Findings> {
  const device = gpu.software ? "software" : "gpu";
  const starts: number[] = [];
  const theirs: number[] = [];
  // once more than is counted: the first fills the driver's shader cache
  for (let round = -1; round < rounds; round++) {
    const start = performance.now();
    await withServer(device, async (client) => {
      await firstScore(client);
      if (round >= 0) starts.push((performance.now() - start) / 1000);
    });
    if (!python) continue;
    const seconds = await pythonFirstScore(python, MODEL);
    if (round >= 0) theirs.push(seconds);
  }
  const rows = [reach("first score", median(starts), `${MODEL}, median of ${rounds}`)];
  if (python) {
    const how = `a server with transformers on the CPU takes ${median(theirs).toFixed(1)} s; alternating`;
    rows.push(reach("first score over Python", medianRatio(starts, theirs), how));
  }
  if (extent === "quick") return { rows };
  const { probes, scores } = await withServer(device, async (client, server) => {
    await firstScore(client);
    const job = await client.train({
      model: MODEL,
      dataset: { path: "examples/preferences.train.jsonl" },
      num_train_epochs: 100,
      batch_size: 32,
    });
    while ((await client.job(job.id)).progress.step < 2) await pause(100);
    const probes: number[] = [];
    for (let i = 0; i < PROBES; i++) {
      probes.push(await timed(async () => await (await fetch(`${server.url}/livez`)).text()));
      await pause(10);
    }
    const scores: number[] = [];
    for (let i = 0; i < SCORES; i++) scores.push(await timed(() => score(client)));
    return { probes, scores };
  });
  const p99 = probes.toSorted((a, b) => a - b)[Math.ceil(0.99 * PROBES) - 1]!;
  rows.push(
    {
      name: "GET /livez while a job trains, 99th percentile",
      value: p99,
      unit: "ms",
      target: { at_most: 50 },
      detail: `${PROBES} requests 10 ms apart`,
    },
    {
      name: "POST /score while a job trains, median",
      value: median(scores),
      unit: "ms",
      detail: `${MODEL}, one prompt, two candidates, ${SCORES} requests`,
    },
  );
  return { rows };
}

async function withServer<T>(
  device: "gpu" | "software",
  work: (client: Client, server: ServerProcess) => Promise<T>,
): Promise<T> {
  const state = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  const server = startServer(state, device, ["task", "--quiet", "serve"]);
  try {
    return await work(new Client(server.url, server.ended), server);
  } finally {
    await server.stop();
    await Deno.remove(state, { recursive: true });
  }
}

/** Asks until the server listens. */
async function firstScore(client: Client): Promise<void> {
  for (;;) {
    try {
      return await score(client);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch's word for a refused connection
      await pause(5);
    }
  }
}

async function score(client: Client): Promise<void> {
  await client.score(MODEL, [{ prompt: "Hello", candidates: [" there.", " you."] }]);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
