import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { simpo } from "../../src/objective/simpo.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";

const minimal = { model: "model", dataset: { path: "rows.jsonl" } };

function refused(fields: Record<string, unknown>): InputError {
  try {
    parseJobSpec({ ...minimal, ...fields });
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  assert.fail(`${JSON.stringify(fields)} is accepted`);
}

Deno.test("parseJobSpec() keeps the template's variables and split_special_tokens, and no place for them where there are none", () => {
  const chat_template_kwargs = { enable_thinking: false };
  const { settings } = parseJobSpec({ ...minimal, chat_template_kwargs });
  assert.deepEqual(settings.chat_template_kwargs, chat_template_kwargs);
  assert.ok(!("chat_template_kwargs" in parseJobSpec({ ...minimal, chat_template_kwargs: null }).settings));
  const split = (value: unknown) => parseJobSpec({ ...minimal, split_special_tokens: value }).settings;
  assert.deepEqual([true, false].map((value) => split(value).split_special_tokens), [true, false]);
  assert.ok(!("split_special_tokens" in split(null)));
  assert.equal(refused({ split_special_tokens: "true" }).field, "split_special_tokens");
  assert.equal(refused({ chat_template_kwargs: { tokenize: true } }).field, "chat_template_kwargs.tokenize");
});

Deno.test("parseJobSpec() fills in the authors' defaults and LoRA", () => {
  assert.deepEqual(parseJobSpec(minimal), {
    model: "model",
    dataset: { path: "rows.jsonl" },
    eval_dataset: null,
    preset: null,
    settings: {
      method: { type: "simpo", beta: 2, gamma: 0.5, loss_type: "sigmoid", label_smoothing: 0, sft_weight: 0 },
      lora: {
        r: 16,
        alpha: 32,
        dropout: 0,
        target_modules: "all-linear",
        use_rslora: false,
        modules_to_save: [],
        ensure_weight_tying: false,
        init_adapter: null,
      },
      quantization: null,
      learning_rate: 2e-5,
      lr_scheduler_type: "cosine",
      warmup_ratio: 0.1,
      num_train_epochs: 1,
      max_steps: null,
      batch_size: 128,
      micro_batch_tokens: null,
      weight_decay: 0,
      adam_beta1: 0.9,
      adam_beta2: 0.999,
      adam_epsilon: 1e-8,
      max_grad_norm: 1,
      max_length: 512,
      max_prompt_length: 128,
      truncation_mode: "keep_end",
      prompt_boundary: "trl",
      chat_template: null,
      save_dtype: null,
      max_left_out: 0.1,
      eval_fraction: 0,
      seed: 42,
      save_steps: 50,
      keep_checkpoints: 2,
      eval_steps: 0,
      logging_steps: 1,
      activation_recomputation: "auto",
    },
  });
});

Deno.test("parseJobSpec() takes lora null as full fine-tuning with the recipes' rate", () => {
  const { settings } = parseJobSpec({ ...minimal, lora: null });
  assert.equal(settings.lora, null);
  assert.equal(settings.learning_rate, 1e-6);
});

Deno.test("parseJobSpec() takes a preset where the request says nothing", () => {
  for (const [preset, recipe] of Object.entries(simpo.recipes)) {
    const { settings } = parseJobSpec({ ...minimal, preset, lora: null });
    assert.ok(settings.method.type === "simpo");
    assert.equal(settings.learning_rate, recipe.learning_rate);
    assert.equal(settings.method.beta, recipe.beta);
    assert.equal(settings.method.gamma, recipe.gamma_beta_ratio * recipe.beta);
    assert.equal(settings.max_length, recipe.max_length);
    assert.equal(settings.max_prompt_length, recipe.max_prompt_length);
    // The largest pair: no prompt to share, two responses of the whole length.
  }
  const { settings } = parseJobSpec({
    ...minimal,
    preset: "gemma2-it",
    max_length: 64,
    learning_rate: 1,
    method: { type: "simpo", beta: 3 },
  });
  assert.ok(settings.method.type === "simpo");
  assert.deepEqual(
    [settings.max_length, settings.max_prompt_length, settings.learning_rate, settings.method.beta],
    [64, 63, 1, 3],
  );
  assert.equal(settings.method.gamma, 1.5);
});

Deno.test("parseJobSpec() takes gamma 0 as 0 and the ratio times beta", () => {
  const gammaOf = (method: Record<string, unknown>) => {
    const parsed = parseJobSpec({ ...minimal, method: { type: "simpo", ...method } }).settings.method;
    return parsed.type === "simpo" ? parsed.gamma : undefined;
  };
  assert.equal(gammaOf({ gamma: 0 }), 0);
  assert.equal(gammaOf({ gamma_beta_ratio: 0 }), 0);
  assert.equal(gammaOf({ beta: 10, gamma_beta_ratio: 0.3 }), 3);
  assert.equal(gammaOf({ beta: 10, gamma: 0.3 }), 0.3);
  assert.equal(gammaOf({ beta: 10 }), 2.5);
});

Deno.test("parseJobSpec() takes sft, max_steps and a partial lora", () => {
  const { settings } = parseJobSpec({
    ...minimal,
    method: { type: "sft" },
    lora: { r: 4, target_modules: ["q_proj"] },
    max_steps: 5,
  });
  assert.deepEqual(settings.method, { type: "sft" });
  assert.deepEqual(settings.lora, {
    r: 4,
    alpha: 8,
    dropout: 0,
    target_modules: ["q_proj"],
    use_rslora: false,
    modules_to_save: [],
    ensure_weight_tying: false,
    init_adapter: null,
  });
  assert.equal(settings.max_steps, 5);
});

const refusals: [fields: Record<string, unknown>, field: string, message: RegExp][] = [
  [
    { method: { type: "simpo", gamma: 1, gamma_beta_ratio: 0.5 } },
    "method.gamma_beta_ratio",
    /both gamma 1 and gamma_beta_ratio 0.5: give one/,
  ],
  [
    { method: { type: "simpo", beta: -1 } },
    "method.beta",
    /method\.beta must be a number of more than 0, not -1/,
  ],
  [{ method: { type: "dpo" } }, "method.type", /method\.type must be "simpo" \| "sft", not "dpo"/],
  [
    { method: { type: "simpo", loss_type: "ipo" } },
    "method.loss_type",
    /must be "sigmoid" \| "hinge", not "ipo"/,
  ],
  [
    { learning_rte: 1 },
    "learning_rte",
    /learning_rte is not a known field; known are model, dataset,.*learning_rate/,
  ],
  [
    { method: { type: "sft", beta: 2 } },
    "method.beta",
    /method\.beta is not a known field; known are type\./,
  ],
  [
    { lora: { rank: 3 } },
    "lora.rank",
    /known are r, alpha, dropout, target_modules, use_rslora, modules_to_save, ensure_weight_tying, init_adapter/,
  ],
  [{ dataset: {} }, "dataset", /dataset must be an object with one of path .* and rows/],
  [{ dataset: { rows: [] } }, "dataset.rows", /dataset.rows must be a list of at least 1 item, not \[\]/],
  [{ dataset: { rows: [5] } }, "dataset.rows[0]", /^dataset\.rows\[0\] must be an object, not number 5\.$/],
  [
    {
      max_left_out: 0,
      dataset: { rows: [{ prompt: "a", chosen: "b", rejected: "c" }, { prompt: "a", chosen: "b" }] },
    },
    "dataset.rows[1]",
    /^dataset\.rows\[1\] must be \{prompt, chosen, rejected\}.*; its keys are prompt, chosen\. No row may be left out \(max_left_out 0\)\.$/,
  ],
  [
    { eval_dataset: { rows: [{ prompt: "a", chosen: 5, rejected: "c" }] } },
    "eval_dataset.rows[0].chosen",
    /^eval_dataset\.rows\[0\]\.chosen must be a string or a list of messages, not number 5\.$/,
  ],
  [
    { method: { type: "sft" }, dataset: { rows: [{ prompt: "a", chosen: "b", rejected: "c" }] } },
    "dataset.rows[0]",
    /^dataset\.rows\[0\] must be \{prompt, completion\}/,
  ],
  [{ dataset: undefined }, "dataset", /dataset is missing: give an object with one of path/],
  [{ model: 3 }, "model", /model must be a string, not 3/],
  [{ max_steps: 3, num_train_epochs: 1 }, "max_steps", /Both max_steps 3 and num_train_epochs 1/],
  [{ max_prompt_length: 512 }, "max_prompt_length", /less than max_length 512, not 512/],
  [{ preset: "llama9" }, "preset", /preset must be "mistral-base" \| .*"gemma2-it", not "llama9"/],
  [{ preset: "gemma2-it", method: { type: "sft" } }, "preset", /recipe for method simpo, not for sft/],
  [{ quantization: "int4" }, "quantization", /quantization must be "int8" or null, not "int4"/],
  [{ lora: "none" }, "lora", /^lora must be an object or null, not "none"\.$/],
  [{ max_steps: 0 }, "max_steps", /^max_steps must be a number of at least 1 or null, not 0\.$/],
  [{ lora: { init_adapter: 1 } }, "lora.init_adapter", /must be a string or null, not 1/],
  [{ lora: { r: "8" } }, "lora.r", /^lora\.r must be a (whole )?number, not "8"\.$/],
  [{ eval_dataset: 1 }, "eval_dataset", /a list of at most 100 such objects or null, not 1/],
  [{ quantization: "int8", lora: null }, "quantization", /int8 is for a frozen base, but with lora null/],
  [{ batch_size: 1.5 }, "batch_size", /batch_size must be a whole number, not 1.5/],
  [{ warmup_ratio: 2 }, "warmup_ratio", /warmup_ratio must be a number of at most 1, not 2/],
  [{ seed: "42" }, "seed", /seed must be a whole number|seed must be a number/],
];

for (const [fields, field, message] of refusals) {
  Deno.test(`parseJobSpec() refuses ${JSON.stringify(fields)}`, () => {
    const error = refused(fields);
    assert.equal(error.field, field);
    assert.match(error.message, message);
    assert.equal(error.status, 422);
    assert.ok(error.problem.accepted);
  });
}

Deno.test("parseJobSpec() refuses what is no object", () => {
  assert.throws(() => parseJobSpec([]), { message: "body must be an object, not []." });
});
