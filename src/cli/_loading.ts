/** The reading of a model's weights, as the commands show it. */
// @ts-types="./_cli_progress.d.ts"
import { SingleBar } from "cli-progress";
import type { LoadProgress } from "../engine/protocol.ts";

/** A bar where stderr is a terminal; elsewhere a line at the start and one at the end. */
export class LoadingDisplay {
  #bar: SingleBar | null = null;
  #start: number | null = null;

  /** Shows how far the reading is. */
  update({ bytes, total_bytes }: LoadProgress): void {
    const gb = Number((total_bytes / 1e9).toPrecision(3));
    if (this.#start === null) {
      this.#start = performance.now();
      if (Deno.stderr.isTerminal()) {
        this.#bar = new SingleBar({ format: `{bar} {percentage} %  loading ${gb} GB  {eta_formatted} left` });
        this.#bar.start(total_bytes, bytes);
      } else console.error(`Loading ${gb} GB of weights.`);
    }
    this.#bar?.update(bytes);
    if (bytes < total_bytes) return;
    const seconds = (performance.now() - this.#start) / 1000;
    const shown = this.#bar !== null;
    this.end();
    if (!shown) console.error(`Loaded them in ${seconds.toFixed(1)} s.`);
  }

  /** Puts the bar away, however far it has come. */
  end(): void {
    this.#bar?.stop();
    this.#bar = null;
    this.#start = null;
  }
}
