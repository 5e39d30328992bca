/** Starts the thread that owns the GPU. */

let waiting: Worker | null = null;

/**
 * Starts an engine's Worker ahead of the engine: its modules are loaded while the command's own are. It does nothing before
 * {@link takeWorker} has handed it to its owner.
 */
export function warmUp(): void {
  waiting ??= spawn();
}

/** The Worker that was started ahead, else one that starts now. */
export function takeWorker(): Worker {
  const worker = waiting ?? spawn();
  waiting = null;
  return worker;
}

function spawn(): Worker {
  return new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "gpu" });
}
