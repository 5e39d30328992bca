/** The hub as the commands use it. */
// @ts-types="./_cli_progress.d.ts"
import { SingleBar } from "cli-progress";
import type { Config } from "../config.ts";
import { type DownloadProgress, Hub } from "../hub/hub.ts";

/** The hub of the settings. */
export function openHub(
  { cache, hubEndpoint, hubToken }: Config,
  onProgress?: (progress: DownloadProgress) => void,
): Hub {
  return new Hub({
    cache,
    endpoint: hubEndpoint,
    token: hubToken,
    ...(onProgress === undefined ? {} : { onProgress }),
  });
}

/** Shows downloads as a bar a file; nothing where stderr is no terminal. */
export function downloadBars(): ((progress: DownloadProgress) => void) | undefined {
  if (!Deno.stderr.isTerminal()) return undefined;
  let shown: { readonly file: string; readonly bar: SingleBar } | null = null;
  return ({ file, bytes, total }) => {
    if (shown?.file !== file) {
      shown?.bar.stop();
      shown = { file, bar: new SingleBar({ format: `{bar} {percentage} %  ${file}  {eta_formatted} left` }) };
      shown.bar.start(total, bytes);
    }
    shown.bar.update(bytes);
    if (bytes === total) {
      shown.bar.stop();
      shown = null;
    }
  };
}
