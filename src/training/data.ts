import { InputError } from "../errors.ts";
import { largestRank } from "../model/adapter_modules.ts";
import { mostTokens } from "../model/pass_layers.ts";
import type { TrainingHost } from "./host.ts";
import type { TrainRequest } from "./request.ts";
import type { TrainingSettings } from "../api/settings.ts";
import { TokenFile } from "./token_file.ts";
import { tokenFolder } from "./token_files.ts";
import { adapterConfig, checkRank } from "./lora_adapter.ts";

/** The rows of a run, as tokens on disk. */
export type Data =
  & Disposable
  & Pick<TokenFile, "train" | "eval" | "all" | "prepared" | "largest" | "checksum">;

/**
 * Opens the tokens of a job once its rows are read.
 *
 * @param onLarge called where that turns out to take a while
 * @throws {InputError} where a row is too large for the device
 * @throws {Interrupted} where the run is to end
 */
export async function readData(
  host: TrainingHost,
  request: TrainRequest,
  settings: TrainingSettings,
  onLarge: () => void,
): Promise<Data> {
  await host.tokenise(settings, onLarge);
  const file = TokenFile.open(tokenFolder(request.directory));
  checkLargest(host, settings, file.largest);
  return file;
}

/**
 * Says where micro_batch_tokens cannot be what the settings ask for.
 *
 * @throws {InputError} where the device can bind no micro-batch of the largest row, or no factor of the rank
 */
function checkLargest(
  host: TrainingHost,
  { micro_batch_tokens: wanted, max_length, lora }: TrainingSettings,
  largest: number,
): void {
  const { gpu, config } = host;
  if (lora) checkRank(gpu, config, adapterConfig(lora, config, null));
  const most = mostTokens(gpu, config, largestRank(lora));
  if (largest > most) {
    throw new InputError(
      `The largest row takes ${largest} tokens, more than a batch of this model may have here.`,
      {
        path: ["max_length"],
        value: max_length,
        accepted: `rows of at most ${most} tokens, prompt and responses together, on this device`,
      },
    );
  }
  if (wanted === null) return;
  const warn = (change: string) =>
    host.emit({ type: "warning", message: `micro_batch_tokens ${wanted} is ${change}.` });
  if (largest > wanted) warn(`raised to ${largest}, the size of the largest row`);
  if (wanted > most) warn(`lowered to ${most}, the most that this device can bind of this model`);
}
