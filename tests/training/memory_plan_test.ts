import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { parseModelConfig } from "../../src/model/config.ts";
import {
  memoryParts,
  type MemoryPlan,
  planMemory,
  type PlannedModel,
  type PlannedSettings,
  runShapes,
} from "../../src/training/memory_plan.ts";
import { settingsOf } from "../helpers/settings.ts";
import { TINY_FAMILIES } from "../helpers/tiny_model.ts";
import { runTiny } from "./_run.ts";

const LORA = { r: 4, dropout: 0.1, target_modules: ["q_proj", "o_proj", "qkv_proj", "c_attn"] };
class Seen extends Error {}

for (const [family, config] of Object.entries({ llama: {}, ...TINY_FAMILIES })) {
  for (const lora of [null, "all-linear", "some", "int8 and saved"]) {
    for (const activation_recomputation of [false, true]) {
      const what = `${family}, ${lora ?? "full"}${activation_recomputation ? ", recomputing" : ""}`;
      Deno.test(`the plan is what a run holds, to the byte: ${what}`, async () => {
        let plan: MemoryPlan | null = null;
        let held: Readonly<Record<string, number>> | null = null;
        const target_modules = LORA.target_modules.filter((name) => targets(family).includes(name));
        await assert.rejects(
          runTiny({
            model: { config, dtype: "BF16" },
            spec: {
              activation_recomputation,
              lora: lora === null ? null : lora === "some" ? { ...LORA, target_modules } : {
                modules_to_save: lora === "int8 and saved"
                  ? [family === "gpt2" ? "wte" : "embed_tokens"]
                  : [],
              },
              quantization: lora === "int8 and saved" ? "int8" : null,
            },
            onEvent: (event, gpu) => {
              if (event.type === "plan") plan = event.plan;
              if (event.type !== "status") return;
              held = memoryParts(gpu.memory.byPart());
              throw new Seen();
            },
          }),
          Seen,
        );
        assert.deepEqual(plan!.bytes, held);
        assert.equal(plan!.total_bytes, Object.values(held!).reduce((sum, bytes) => sum + bytes, 0));
      });
    }
  }
}

function targets(family: string): string[] {
  if (family === "gpt2") return ["c_attn"];
  return family.startsWith("phi3") ? ["qkv_proj", "o_proj"] : ["q_proj", "o_proj"];
}

Deno.test("the plan is what a run holds where tables are split, and leaves out a few KiB of parameters", async () => {
  let plan: MemoryPlan | null = null;
  let held = 0;
  await runTiny({
    gpu: { maxTensorBytes: 100 * 48 * 4 },
    model: { tied: false },
    spec: { max_length: 40, max_prompt_length: 20 },
    onEvent: (event, gpu) => {
      if (event.type === "plan") plan = event.plan;
      if (event.type !== "progress") return;
      const names = Object.entries(gpu.memory.byName());
      assert.ok(names.some(([name]) => name === "lm_head.weight#1"));
      held = names.filter(([name]) => !name.endsWith(".params")).reduce((sum, [, bytes]) => sum + bytes, 0);
      assert.ok(gpu.memory.bytes - held < 3 * 64 * 2 ** 10);
    },
  });
  assert.equal(plan!.total_bytes, held);
});

const TYPICAL_TENSOR_BYTES = 2 ** 31 - 16;

function planned(json: Readonly<Record<string, unknown>>): PlannedModel {
  return { config: parseModelConfig(json), stored: () => "BF16", maxTensorBytes: TYPICAL_TENSOR_BYTES };
}

const LLAMA_3_8B = planned({
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  vocab_size: 128_256,
  hidden_size: 4096,
  intermediate_size: 14_336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_theta: 500_000,
  max_position_embeddings: 8192,
  tie_word_embeddings: false,
});
const settingsOf8B = (spec: Readonly<Record<string, unknown>> = {}): PlannedSettings =>
  settingsOf({ lora: { r: 16 }, max_length: 2048, ...spec });

Deno.test("Llama-3-8B with LoRA at 2048 tokens fits 24 GB", () => {
  const [plan] = planMemory(LLAMA_3_8B, settingsOf8B(), 4096, 24e9);
  assert.equal(plan!.micro_batch_tokens, 4096);
  assert.equal(plan!.activation_recomputation, true);
  // 8.03 G weights of 2 bytes, of which the norms' are of 4; 41.9 M factors of 4
  assert.equal(plan!.bytes.weights, 2 * 8_030_261_248 + 2 * 65 * 4096);
  assert.equal(plan!.bytes.parameters, 4 * 41_943_040);
  assert.ok(plan!.total_bytes < 24e9, `${plan!.total_bytes}`);
});

Deno.test("runShapes() keeps activations before it recomputes them, and never splits the largest row", () => {
  const shapes = (spec: Readonly<Record<string, unknown>>, largest: number) =>
    runShapes(LLAMA_3_8B, settingsOf8B(spec), largest).map((shape) =>
      `${shape.micro_batch_tokens}${shape.activation_recomputation ? " again" : ""}`
    );
  assert.deepEqual(shapes({}, 300), [
    "4096",
    "2048",
    "1024",
    "512",
    ...["4096 again", "2048 again", "1024 again", "512 again", "300 again"],
  ]);
  assert.deepEqual(shapes({}, 4096), ["4096", "4096 again"]);
  assert.deepEqual(shapes({ activation_recomputation: false }, 1500), ["4096", "2048", "1500"]);
  assert.deepEqual(shapes({ micro_batch_tokens: 700 }, 300), ["700", "700 again"]);
  assert.deepEqual(shapes({ micro_batch_tokens: 700, activation_recomputation: true }, 900), ["900 again"]);
});

Deno.test("planMemory() chooses by what the device has, and a resumed run's shape where that fits", () => {
  const settings = settingsOf8B();
  const all = planMemory(LLAMA_3_8B, settings, 1000, null);
  const choice = (available: number, kept?: MemoryPlan) => {
    const { available_bytes, ...plan } = planMemory(LLAMA_3_8B, settings, 1000, available, kept)[0]!;
    assert.equal(available_bytes, available);
    return { ...plan, available_bytes: null };
  };
  assert.deepEqual(choice(80e9), all[0]);
  const recomputed = all.find((plan) => plan.activation_recomputation)!;
  assert.deepEqual(choice(22e9), recomputed);
  assert.deepEqual(choice(80e9, recomputed), recomputed);
  assert.deepEqual(choice(22e9, all[0]), recomputed);
  const least = all.at(-1)!;
  assert.deepEqual(choice(least.total_bytes), least);
});

const refusals: [string, Readonly<Record<string, unknown>>, number, number, RegExp][] = [
  ["int8", {}, 4096, 18.5e9, /^quantization int8, or rows of at most \d+ tokens by a smaller max_length/],
  [
    "shorter rows",
    { quantization: "int8" },
    4096,
    11e9,
    /^rows of at most \d+ tokens by a smaller max_length/,
  ],
  ["LoRA", { lora: null }, 4096, 40e9, /^LoRA$/],
  ["a choice", { activation_recomputation: false }, 4096, 24e9, /^activation_recomputation and micro_batch/],
  ["a smaller r", { lora: { r: 256 } }, 1000, 20e9, /^lora\.r 64$/],
  ["nothing", {}, 4096, 8e9, /^a smaller model, or a device with more memory$/],
];

for (const [remedy, spec, largest, available, accepted] of refusals) {
  Deno.test(`planMemory() refuses what cannot fit with its figures, and offers ${remedy}`, () => {
    assert.throws(() => planMemory(LLAMA_3_8B, settingsOf8B(spec), largest, available), (error) => {
      assert.ok(error instanceof InputError, String(error));
      assert.match(
        error.message,
        /^The job needs [\d.]+ GiB of the device's memory with \d+ tokens a micro-batch and activations (kept|recomputed) \(.*(frozen weights|trained parameters) [\d.]+ GiB.*\); [\d.]+ GiB are to be had(, enough for .+)?\.$/,
      );
      assert.match(error.problem.accepted!, accepted);
      assert.equal(error.message.includes(error.problem.accepted!), remedy !== "nothing");
      return true;
    });
  });
}

Deno.test("planMemory() refuses a rank whose factors no tensor may have", () => {
  assert.throws(() => planMemory(LLAMA_3_8B, settingsOf8B({ lora: { r: 65536 } }), 0, null), {
    name: "InputError",
    message: /^lora\.r is 65536, but on this device .* at most rank \d+\.$/,
  });
});

/** Runs one of a job's lives. @returns the shape it had, and whether it said that it is another than before */
async function live(
  directory: string,
  memoryLimitBytes: number,
  { stop }: { readonly stop: boolean },
): Promise<{ readonly plan: MemoryPlan; readonly warned: boolean }> {
  let plan: MemoryPlan | null = null;
  let steps = 0;
  const { events, outcome } = await runTiny({
    gpu: { memoryLimitBytes },
    spec: { lora: null, max_steps: 3, max_length: 40, max_prompt_length: 16 },
    directory,
    onEvent: (event) => {
      if (event.type === "plan") plan = event.plan;
      if (event.type === "progress") steps++;
    },
    context: { between: () => Promise.resolve(stop && steps === 1 ? "stop" : "continue") },
  });
  assert.equal(outcome.outcome, stop ? "stopped" : "succeeded");
  const warned = events.some((event) => event.type === "warning" && /^The run goes on/.test(event.message));
  return { plan: plan!, warned };
}

for (const [first, second] of [["small", "large"], ["large", "small"]] as const) {
  Deno.test(`train() goes on from a ${first} device on a ${second} one as it began where that fits`, async () => {
    const directories = [await Deno.makeTempDir(), await Deno.makeTempDir()] as const;
    try {
      const large = 2 ** 30;
      const whole = (await live(directories[0], large, { stop: false })).plan;
      const devices = { large, small: Math.floor(whole.total_bytes * 0.6) };
      const before = await live(directories[1], devices[first], { stop: true });
      const after = await live(directories[1], devices[second], { stop: false });
      const shapeOf = ({ micro_batch_tokens, activation_recomputation }: MemoryPlan) => [
        micro_batch_tokens,
        activation_recomputation,
      ];
      const [shape, next] = [shapeOf(before.plan), shapeOf(after.plan)];
      if (first === "small") {
        assert.notDeepEqual(shape, shapeOf(whole));
        assert.deepEqual(next, shape);
      } else {
        assert.deepEqual(shape, shapeOf(whole));
        assert.notDeepEqual(next, shape);
      }
      assert.deepEqual([before.warned, after.warned], [false, first === "large"]);
    } finally {
      for (const directory of directories) await Deno.remove(directory, { recursive: true });
    }
  });
}
