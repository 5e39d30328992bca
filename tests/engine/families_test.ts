import assert from "node:assert/strict";
import { exportMerged } from "../../src/model/export.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { itemOf, Lab } from "./_lab.ts";

const lab = await Lab.open();

Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

const GEMMA = { hidden_act: undefined, hidden_activation: "gelu_pytorch_tanh", sliding_window: 7 };

/** What a tiny model of each family says beside its sizes. */
const FAMILIES = {
  mistral: { model_type: "mistral", architectures: ["MistralForCausalLM"], sliding_window: 6 },
  qwen2: { model_type: "qwen2", architectures: ["Qwen2ForCausalLM"] },
  qwen3: { model_type: "qwen3", architectures: ["Qwen3ForCausalLM"] },
  gemma2: { model_type: "gemma2", architectures: ["Gemma2ForCausalLM"], ...GEMMA },
  gemma3: {
    model_type: "gemma3_text",
    architectures: ["Gemma3ForCausalLM"],
    sliding_window_pattern: 2,
    ...GEMMA,
  },
  gpt2: {
    model_type: "gpt2",
    architectures: ["GPT2LMHeadModel"],
    n_embd: 32,
    n_inner: null,
    n_layer: 2,
    n_head: 4,
    n_positions: 128,
  },
  phi3: { model_type: "phi3", architectures: ["Phi3ForCausalLM"] },
  "phi3 of long and short sequences": {
    model_type: "phi3",
    architectures: ["Phi3ForCausalLM"],
    original_max_position_embeddings: 12,
    rope_scaling: { type: "longrope", short_factor: [1, 1.1, 1.3, 1.5], long_factor: [1.2, 1.5, 2, 4] },
  },
};

for (const [family, config] of Object.entries(FAMILIES)) {
  const rows = plainRows(8);
  const items = rows.map(itemOf);
  const averages = (metrics: Readonly<Record<string, number>>) => [
    metrics["eval_logps/chosen"]!,
    metrics["eval_logps/rejected"]!,
  ];
  const meanOf = (scored: Awaited<ReturnType<Lab["score"]>>) =>
    [0, 1].map((i) =>
      scored.reduce((sum, { results }) => sum + results[i]!.average_logprob, 0) / scored.length
    );

  Deno.test(`${family}: what LoRA learns is what /score and a merged model show`, async () => {
    const model = await lab.writeModel(`${family}-lora`, { config });
    const job = await lab.train({
      model,
      rows,
      eval_rows: rows,
      max_steps: 4,
      batch_size: 4,
      learning_rate: 1e-2,
    });
    const adapted = await lab.score(items, { model, adapter: job.result });
    assertClose(meanOf(adapted), averages(job.metrics.at(-1)!.metrics), {
      rtol: 1e-5,
      relativeTo: "element",
    });
    const out = lab.path(`${family}-merged`);
    await exportMerged(model, job.result, out);
    const merged = meanOf(await lab.score(items, { model: out }));
    assertClose(merged, meanOf(adapted), { rtol: 1e-5, relativeTo: "element" });
    const base = meanOf(await lab.score(items, { model }));
    assert.throws(() => assertClose(base, merged, { rtol: 1e-4, relativeTo: "element" }));
  });

  Deno.test(`${family}: full fine-tuning writes a model of the same family`, async () => {
    const model = await lab.writeModel(`${family}-full`, { config, dtype: "BF16" });
    const settings = {
      lora: null,
      learning_rate: 1e-3,
      max_steps: 2,
      batch_size: 4,
      activation_recomputation: true,
    };
    const job = await lab.train({ model, rows, eval_rows: rows, ...settings });
    const scored = await lab.score(items, { model: job.result });
    assertClose(meanOf(scored), averages(job.metrics.at(-1)!.metrics), { rtol: 1e-5, relativeTo: "element" });
  });
}
