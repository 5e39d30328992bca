/** PyTorch, transformers and TRL on the CPU, where a Python that has them is named. */
import { fileURLToPath } from "node:url";
import type { Sizes } from "./_model.ts";

const FOLDER = fileURLToPath(new URL("./python/", import.meta.url));
const CHECKOUT = fileURLToPath(new URL("../", import.meta.url));
const OFFLINE = { HF_HUB_OFFLINE: "1", TRANSFORMERS_OFFLINE: "1" };

/** Seconds from the start of a Python server to its first score. @throws where it ends before */
export async function pythonFirstScore(python: string, model: string): Promise<number> {
  const port = freePort();
  const start = performance.now();
  const server = new Deno.Command(python, {
    args: [`${FOLDER}score_server.py`, model, String(port)],
    cwd: CHECKOUT,
    env: OFFLINE,
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  let ended = false;
  server.status.then(() => ended = true);
  try {
    for (;;) {
      try {
        const body = JSON.stringify({ prompt: "Hello", candidates: [" there.", " you."] });
        const response = await fetch(`http://127.0.0.1:${port}/score`, { method: "POST", body });
        if (!response.ok) throw new Error(`The Python server answered ${response.status}.`);
        await response.json();
        return (performance.now() - start) / 1000;
      } catch (error) {
        if (ended) throw new Error(`${python} ended with score_server.py: it needs torch and transformers.`);
        if (!(error instanceof TypeError)) throw error; // fetch's word for a refused connection
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  } finally {
    if (!ended) server.kill();
    await server.status;
  }
}

/** Median milliseconds of a 1024^3 product, of scoring 16 candidates and of a training step of pairs. */
export async function pythonSteps(
  python: string,
  sizes: Sizes,
  rounds: number,
): Promise<Record<"matmul" | "scoring" | "training", number>> {
  const { stdout, stderr, success } = await new Deno.Command(python, {
    args: [`${FOLDER}steps.py`, JSON.stringify(sizes), String(rounds)],
    env: OFFLINE,
    stdin: "null",
  }).output();
  if (!success) throw new Error(`${python} could not run steps.py: ${new TextDecoder().decode(stderr)}`);
  const lines = new TextDecoder().decode(stdout).trim().split("\n").filter((line) =>
    line.startsWith('{"name"')
  );
  return Object.fromEntries(
    lines.map((line) => JSON.parse(line)).map(({ name, milliseconds }) => [name, milliseconds]),
  );
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}
