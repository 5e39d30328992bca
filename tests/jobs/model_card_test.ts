import assert from "node:assert/strict";
import config from "../../deno.json" with { type: "json" };
import { modelCard } from "../../src/jobs/model_card.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";

/** The card's front matter by its keys, read as YAML's flat part: strings, and lists of them. */
function frontMatter(card: string): Record<string, unknown> {
  const [, front = ""] = /^---\n(.*?)\n---\n/s.exec(card) ?? [];
  const read = (text: string) => text.startsWith('"') ? JSON.parse(text) : text;
  return Object.fromEntries(
    front.split(/\n(?=\w)/).map((entry) => {
      const [, key, value, items] = /^(\w+):(?: (.+)|((?:\n- .+)+))$/.exec(entry)!;
      return [
        key,
        value === undefined ? items!.trim().split("\n").map((item) => read(item.slice(2))) : read(value),
      ];
    }),
  );
}

function cardOf(request: Record<string, unknown>, form: "adapter" | "merged" | "full" = "adapter"): string {
  const dataset = { path: "hf://datasets/org/set@v2/default", split: "train" };
  const spec = parseJobSpec({ model: "hf://org/name@v1", dataset, ...request });
  return modelCard({ ...spec, dataset, eval_dataset: null, metrics: { step: 3, loss: 0.25 } }, form);
}

Deno.test("modelCard() has the front matter that the hub reads", () => {
  assert.deepEqual(frontMatter(cardOf({})), {
    base_model: "org/name",
    base_model_relation: "adapter",
    library_name: "peft",
    pipeline_tag: "text-generation",
    tags: ["base_model:adapter:org/name", "lora", "simpo"],
    datasets: ["org/set"],
  });
  const odd = 'models/a "b": c';
  const full = frontMatter(cardOf({ model: odd, lora: null, method: { type: "sft" } }, "full"));
  assert.deepEqual([full["base_model"], full["library_name"]], [odd, "transformers"]);
  assert.deepEqual(full["tags"], [`base_model:finetune:${odd}`, "sft"]);
});

Deno.test("modelCard() tells data, settings and metrics, and how the folder is loaded", () => {
  const card = cardOf({ learning_rate: 3e-5, chat_template: "{{ long }}" });
  for (
    const text of [
      "at revision `v1` by [SimPO]",
      `with simpo-worker ${config.version}.`,
      '- training: `{"path":"hf://datasets/org/set@v2/default","split":"train"}`\n- evaluation: none',
      '  "learning_rate": 0.00003,',
      '  "chat_template": "chat_template.jinja"',
      "| loss | 0.25 |",
      "AutoPeftModelForCausalLM.from_pretrained(",
      '  "model": "hf://org/name@v1",\n  "adapter": ',
    ]
  ) assert.ok(card.includes(text), text);
  assert.ok(!card.includes("{{ long }}"));
  assert.equal(card, cardOf({ learning_rate: 3e-5, chat_template: "{{ long }}" }));
});

Deno.test("modelCard() lists the rows left out by reason, and the first warnings in short", () => {
  const dataset = { path: "rows.jsonl" };
  const spec = parseJobSpec({ model: "m", dataset });
  const job = { ...spec, dataset, eval_dataset: null, metrics: null };
  const rows_left_out = {
    count: 3,
    reasons: [{ split: "train" as const, reason: "has an\nempty response", count: 3 }],
    first: [],
  };
  const warnings = Array.from({ length: 12 }, (_, i) => `warning ${i}${"!".repeat(400)}`);
  const card = modelCard({ ...job, rows_left_out, warnings, warning_count: 60 }, "adapter");
  assert.ok(card.includes("3 rows were not used.\n\n- train: 3: has an empty response\n"));
  assert.ok(card.includes("\n- and 50 more\n"));
  assert.ok(card.includes("- warning 9!") && !card.includes("- warning 10"));
  assert.ok(!/## (Warnings|Rows left out)/.test(modelCard(job, "adapter")));
});
