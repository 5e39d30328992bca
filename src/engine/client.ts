import { TextEngine } from "../text/engine.ts";
import { EnginePool } from "./pool.ts";
import type { Engine } from "./protocol.ts";
import { type EngineOptions, WorkerEngine } from "./worker_engine.ts";

export type { EngineOptions } from "./worker_engine.ts";

/**
 * Starts the Worker that owns the GPU.
 *
 * @throws {InputError} where no device of the wanted kind answers
 */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const engine = new TextEngine(new EnginePool([new WorkerEngine(options)]));
  try {
    await engine.call("device", null);
    return engine;
  } catch (error) {
    await engine.stop();
    throw error;
  }
}
