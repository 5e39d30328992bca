import { fileURLToPath } from "node:url";
import { alternate, type BenchRow, median } from "./_rows.ts";

const ROUNDS = 3;
const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const REQUEST = {
  model: "examples/tiny-llama",
  prompt: "Hello",
  candidates: [" there.", " you."],
};

/** From the start of `main.ts serve` to the first answer of POST /score, with the driver's shader cache warm. */
export async function benchColdStart(software: boolean): Promise<BenchRow[]> {
  const times = await alternate(ROUNDS, { start: () => startAndScore(software) });
  return [{
    name: "process start to first /score",
    value: median(times.start) / 1000,
    unit: "s",
    detail: `examples/tiny-llama, warm driver cache, median of ${ROUNDS}`,
  }];
}

async function startAndScore(software: boolean): Promise<void> {
  const state = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  const port = freePort();
  const server = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-read",
      "--allow-write",
      "--allow-net=127.0.0.1",
      "--allow-env",
      "main.ts",
      "serve",
    ],
    cwd: PROJECT,
    env: {
      PORT: String(port),
      SIMPO_STATE: state,
      SIMPO_DEVICE: software ? "software" : "gpu",
      SIMPO_LOG: "error",
    },
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    await scoreOnce(`http://127.0.0.1:${port}/score`);
  } finally {
    server.kill("SIGTERM");
    await server.status;
    await Deno.remove(state, { recursive: true });
  }
}

async function scoreOnce(url: string): Promise<void> {
  const body = JSON.stringify(REQUEST);
  const deadline = performance.now() + 60_000;
  while (performance.now() < deadline) {
    const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body })
      .catch(() => null);
    if (answer) {
      const text = await answer.text();
      if (!answer.ok) throw new Error(`POST /score answered ${answer.status}: ${text}`);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("The server did not answer within 60 s.");
}

function freePort(): number {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  return (listener.addr as Deno.NetAddr).port;
}
