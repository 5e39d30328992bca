/**
 * Makes what check_peft.py compares: a tiny model, an adapter that this worker trains on it, the merged export, rows as
 * token ids, and the worker's own scores of them.
 *
 *     deno run -A tests/reference/peft_case.ts FOLDER
 *
 * Two models are made, FOLDER/f32 (tied) and FOLDER/bf16 (untied, sharded), each with `model`, `adapter`, `merged`,
 * `rows.json`, `adapter.json` and `merged.json` (scores with the adapter, and of the merged export).
 */
import { join } from "node:path";
import { startEngine } from "../../src/engine/client.ts";
import { exportMerged } from "../../src/model/export.ts";
import { encodeComparison } from "../../src/preference/encode.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { itemOf } from "../engine/_lab.ts";
import { settingsOf } from "../helpers/settings.ts";
import { chatRows, plainRows, type TinyModelOptions, writeTinyModel } from "../helpers/tiny_model.ts";

const CASES: Record<string, TinyModelOptions> = {
  f32: {},
  bf16: { dtype: "BF16", tied: false, sharded: true, seed: 2 },
};

const [folder] = Deno.args;
if (folder === undefined) throw new Error("Usage: peft_case.ts FOLDER");

const rows = [...plainRows(12), ...chatRows(12, 8)];
const items = rows.map(itemOf);
const engine = await startEngine({ device: "auto", allowSoftware: true });
for (const [name, options] of Object.entries(CASES)) {
  const directory = join(folder, name);
  await Deno.mkdir(directory, { recursive: true });
  const model = await writeTinyModel(join(directory, "model"), options);
  await engine.train({
    id: name,
    model,
    dataset: { rows },
    eval_dataset: null,
    init_adapter: null,
    settings: settingsOf({ num_train_epochs: 4, lora: { r: 6, alpha: 9 } }),
    directory,
  }, () => {});
  await Deno.rename(join(directory, "result"), join(directory, "adapter"));
  await exportMerged(model, join(directory, "adapter"), join(directory, "merged"));

  const tokenizer = await loadTokenizer(model);
  const ids = items.flatMap(({ prompt, candidates: responses }, row) => {
    const { group } = encodeComparison(tokenizer, { row, prompt, responses }, {
      max_length: Infinity,
      max_prompt_length: Infinity,
      truncation_mode: "keep_end",
      prompt_boundary: "trl",
    });
    return group!.responses.map(({ tokens, scored_from }) => ({
      prompt: [...group!.prompt, ...tokens.subarray(0, scored_from)],
      response: [...tokens.subarray(scored_from)],
    }));
  });
  await Deno.writeTextFile(join(directory, "rows.json"), JSON.stringify(ids));
  const scored = {
    adapter: { model, adapter: join(directory, "adapter") },
    merged: { model: join(directory, "merged") },
  };
  for (const [what, request] of Object.entries(scored)) {
    const answer = await Array.fromAsync(
      engine.score({ adapter: null, quantization: null, items, beta: 2, token_logprobs: false, ...request }),
    );
    const average_logprobs = answer.flatMap(({ results }) =>
      results.map(({ average_logprob }) => average_logprob)
    );
    await Deno.writeTextFile(join(directory, `${what}.json`), JSON.stringify({ average_logprobs }));
  }
}
await engine.stop();
