// @ts-types="./_cli_progress.d.ts"
import { SingleBar } from "cli-progress";
import type { DownloadProgress } from "../hub/hub.ts";

/** Downloads, as the commands show them: a bar a file where stderr is a terminal; elsewhere a line when one begins. */
export class DownloadDisplay {
  #file: string | null = null;
  #bar: SingleBar | null = null;

  /** Shows how far a download is. */
  update({ file, bytes, total_bytes }: DownloadProgress): void {
    if (this.#file !== file) {
      this.end();
      this.#file = file;
      const mb = Number((total_bytes / 1e6).toPrecision(3));
      if (Deno.stderr.isTerminal()) {
        this.#bar = new SingleBar({
          format: `{bar} {percentage} %  ${file}  ${mb} MB  {eta_formatted} left`,
        });
        this.#bar.start(total_bytes, bytes);
      } else console.error(`Downloading ${file}, ${mb} MB.`);
    }
    this.#bar?.update(bytes);
    if (bytes === total_bytes) this.end();
  }

  /** Puts the bar away, however far it has come. */
  end(): void {
    this.#bar?.stop();
    this.#bar = null;
    this.#file = null;
  }
}
