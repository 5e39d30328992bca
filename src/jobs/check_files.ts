/** What a job names, looked up before the job is taken. */
import { within } from "../errors.ts";
import { chooseModelFiles } from "../hub/model_files.ts";
import { isHubName, parseHubName } from "../hub/name.ts";
import { textThread } from "../text/thread.ts";
import { checkDataset, type FileSources, hubOf, resolveModel } from "./files.ts";
import type { JobSpec } from "./spec.ts";

/** What a job names: its files, and with `settings` the modules of its model. */
interface JobNames extends Pick<JobSpec, "model" | "dataset" | "eval_dataset"> {
  readonly settings?: Pick<JobSpec["settings"], "lora">;
}

/**
 * Looks up what a job names without downloading more than the hub's lists of files, or reading more of local weights than
 * their headers. A model of the hub is not looked into.
 *
 * @throws {InputError} naming the field
 */
export async function checkFiles(
  sources: FileSources,
  { model, dataset, eval_dataset, settings }: JobNames,
): Promise<void> {
  if (isHubName(model)) {
    await within(["model"], async () => {
      const name = parseHubName(model, "model");
      chooseModelFiles(await hubOf(sources.hub).list(name), name.repository);
    });
  } else {
    const folder = await within(["model"], () => resolveModel(sources, model));
    await textThread().call("model", { model: folder, lora: settings?.lora ?? null });
  }
  for (const [field, rows] of Object.entries({ dataset, eval_dataset })) {
    if (rows === null) continue;
    await within([field], () => checkDataset(sources, rows));
  }
}
