/** Modules trained in full beside an adapter, through training, scoring, merging and further training. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { InputError } from "../../src/errors.ts";
import { exportMerged } from "../../src/model/export.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { adapterName } from "../../src/model/weights.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { itemOf, Lab, loggedMeans, logprobsOf, meansOf, type Trained } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());
const packed = await lab.writeModel("packed", { dtype: "BF16", tied: false, sharded: true });

const ROWS = plainRows(6);

/** Average log-probs of the rows' chosen and rejected responses in turn. */
async function scores(adapter: string | null, model = lab.model): Promise<number[]> {
  return logprobsOf(await lab.score(ROWS.map(itemOf), { adapter, model }));
}

const evaluation = ({ metrics }: Trained) => loggedMeans(metrics.at(-1)!, "eval_");

const warnings = ({ events }: Trained) =>
  events.flatMap((event) => event.type === "warning" && /come apart/.test(event.message) ? event : []);

for (
  const [name, lora, files, options] of [
    ["tied tables as one", { modules_to_save: ["embed_tokens", "norm"], ensure_weight_tying: true }, [
      "lm_head.weight",
      "model.embed_tokens.weight",
      "model.norm.weight",
    ], {}],
    [
      "an embedding apart from its head",
      { modules_to_save: ["embed_tokens"] },
      ["model.embed_tokens.weight"],
      {},
    ],
    ["a head apart from its embedding", { modules_to_save: ["lm_head"] }, ["lm_head.weight"], {}],
    ["tables and a layer of a bf16 model", { modules_to_save: ["embed_tokens", "lm_head", "q_proj"] }, [
      "lm_head.weight",
      "model.embed_tokens.weight",
      "model.layers.0.self_attn.q_proj.weight",
    ], { model: packed }],
  ] as const
) {
  Deno.test(`train() trains ${name}: it learns, scores as it evaluates, merges, and goes on`, async () => {
    const { model = lab.model } = options as { model?: string };
    const job = { model, rows: ROWS, eval_rows: ROWS, eval_steps: 1, weight_decay: 0.01 };
    const before = await scores(null, model);
    const first = await lab.train({ ...job, lora: { r: 2, ...lora }, max_steps: 12 });
    const losses = first.metrics.map(({ metrics }) => metrics.eval_loss!);
    assert.ok(losses.at(-1)! < losses[0]! - 0.05, `${losses}`);
    assert.equal(warnings(first).length, name.includes("apart") ? 1 : 0);

    using file = await WeightFiles.openFile(join(first.result, "adapter_model.safetensors"));
    const held = file.names();
    for (const weight of files) assert.ok(held.includes(adapterName(weight)), `${held}`);
    assert.equal(held.includes(adapterName("lm_head.weight")), files[0] === "lm_head.weight");
    assert.ok(
      !held.some((name) =>
        files.some((file) => name.startsWith(adapterName(file.replace("weight", "lora"))))
      ),
    );
    const config = JSON.parse(await Deno.readTextFile(join(first.result, "adapter_config.json")));
    assert.deepEqual(config.modules_to_save, lora.modules_to_save);
    assert.equal(config.ensure_weight_tying, "ensure_weight_tying" in lora);

    const scored = await scores(first.result, model);
    assertClose(meansOf(scored), evaluation(first), { rtol: 1e-5 });
    assert.deepEqual(await scores(null, model), before);

    const merged = lab.path(`merged ${name}`);
    await exportMerged(model, first.result, merged, { dtype: "F32" });
    assertClose(await scores(null, merged), scored, { rtol: 1e-5 });

    const still = {
      ...job,
      lora: { r: 2, ...lora },
      init_adapter: first.result,
      learning_rate: 1e-30,
      max_steps: 1,
    };
    const again = await lab.train(still);
    assert.deepEqual(evaluation(again), evaluation(first));
  });
}

Deno.test("train() refuses names of modules that the model has not", async () => {
  for (
    const [lora, field] of [
      [{ modules_to_save: ["wte"] }, "modules_to_save"],
      [{ modules_to_save: ["proj"] }, "modules_to_save"],
      [{ modules_to_save: ["mlp", "self_attn"] }, "modules_to_save"],
      [{ ensure_weight_tying: true }, "ensure_weight_tying"],
    ] as const
  ) {
    await assert.rejects(lab.train({ lora, max_steps: 1 }), (error) => {
      assert.equal((error as InputError).field, field, `${error}`);
      return true;
    });
  }
  const { result } = await lab.train({ max_steps: 1, lora: { r: 2, modules_to_save: ["norm"] } });
  for (const modules_to_save of [[], ["model.norm"], ["norm", "lm_head"]]) {
    await assert.rejects(lab.train({ max_steps: 1, lora: { r: 2, modules_to_save }, init_adapter: result }), {
      name: "InputError",
      message: /^lora\.init_adapter has another .*modules_to_save/,
    });
  }
});
