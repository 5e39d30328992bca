/** What an objective needs of the policy before its first step: found once, kept with the job. */
import { InputError } from "../errors.ts";
import type { Method } from "../objective/mod.ts";
import type { Objective } from "../objective/objective.ts";
import type { Data } from "./data.ts";
import { PreparedFile } from "./prepared_file.ts";
import type { TrainStep } from "./step.ts";
import { tokenFolder } from "./token_files.ts";

/** Groups whose numbers are kept at a time: what a kill costs at most. */
const GROUPS = 256;

/**
 * Runs the policy forward over all rows, as it stands before the first step, and hands what the objective makes of them to
 * `data`. What an earlier life has found is not found again.
 *
 * @param at updates done: past the first the policy is another
 * @param between awaited once a micro-batch is queued. What it throws ends the preparation
 * @throws {InputError} where numbers are missing and the policy of the first step has gone
 */
export async function prepare(
  { prepare, responses }: Objective,
  method: Method,
  { directory, at }: { readonly directory: string; readonly at: number },
  data: Data,
  step: TrainStep,
  between: () => Promise<void>,
): Promise<void> {
  if (prepare === undefined) return;
  const { all } = data;
  const key = JSON.stringify([method, data.checksum]);
  const file = new PreparedFile(tokenFolder(directory), key, all.length, responses * prepare.numbers.length);
  if (!file.isWhole && at > 0) {
    throw new InputError(
      `The ${
        prepare.numbers.join(", ")
      } of the job's rows, which were found before its first step, are missing or damaged: ` +
        `after step ${at} they cannot be found again.`,
      { path: ["method"], accepted: "the job's folder as the worker wrote it, or a new job" },
    );
  }
  while (!file.isWhole) {
    const first = file.done;
    const length = Math.min(GROUPS, all.length - first);
    const groups = {
      length,
      at: (index: number) => all.at(first + index),
      tokens: (index: number) => all.tokens(first + index),
    };
    file.append(await step.prepare(groups, { between }));
  }
  data.prepared = file;
}
