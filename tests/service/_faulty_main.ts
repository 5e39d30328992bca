/** `serve` with the Worker of tests/engine/_faulty_worker.ts: `_faulty_main.ts SECONDS`, that its thread may stand still. */
import { serve } from "../../src/cli/serve.ts";
import { startEngine } from "../../src/engine/client.ts";
import { LIMITS } from "../../src/engine/watchdog.ts";

const limits = { ...LIMITS.software, javascript: Number(Deno.args[0]), impatient: Number(Deno.args[0]) };
const spawn = () => new Worker(new URL("../engine/_faulty_worker.ts", import.meta.url), { type: "module" });

const code = await serve([], {
  startEngine: (options) => startEngine({ ...options, limits, spawn }),
  exportMerged: () => Promise.resolve(),
});
Deno.exit(code);
