// @ts-types="./_cli_progress.d.ts"
import { SingleBar } from "cli-progress";
import type { LoadProgress } from "../engine/protocol.ts";
import type { DownloadProgress } from "../hub/hub.ts";

/** Downloads and the reading of weights, as the commands show them: a bar where stderr is a terminal; elsewhere lines. */
export class ProgressDisplay {
  #shown: string | null = null;
  #bar: SingleBar | null = null;
  #start = 0;

  /** Shows how far a file's download is: a line when it begins. */
  download({ file, ...progress }: DownloadProgress): void {
    const mb = Number((progress.total_bytes / 1e6).toPrecision(3));
    this.#update(`${file}  ${mb} MB`, `Downloading ${file}, ${mb} MB.`, progress);
  }

  /** Shows how far the reading of a model's weights is: a line at the start and one at the end. */
  load(progress: LoadProgress): void {
    const gb = Number((progress.total_bytes / 1e9).toPrecision(3));
    const last = this.#update(`loading ${gb} GB`, `Loading ${gb} GB of weights.`, progress);
    const seconds = (performance.now() - this.#start) / 1000;
    if (last && !Deno.stderr.isTerminal()) console.error(`Loaded them in ${seconds.toFixed(1)} s.`);
  }

  /** Puts the bar away, however far it has come. */
  end(): void {
    this.#bar?.stop();
    this.#bar = null;
    this.#shown = null;
  }

  /** @returns whether that was the end */
  #update(what: string, begins: string, { bytes, total_bytes }: Omit<LoadProgress, "file">): boolean {
    if (this.#shown !== what) {
      this.end();
      this.#shown = what;
      this.#start = performance.now();
      if (Deno.stderr.isTerminal()) {
        this.#bar = new SingleBar({ format: `{bar} {percentage} %  ${what}  {eta_formatted} left` });
        this.#bar.start(total_bytes, bytes);
      } else console.error(begins);
    }
    this.#bar?.update(bytes);
    if (bytes < total_bytes) return false;
    this.end();
    return true;
  }
}
