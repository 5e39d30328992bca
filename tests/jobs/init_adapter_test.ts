import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { jobFolder } from "../../src/jobs/folder.ts";
import { resolveInitAdapter, withInitAdapter } from "../../src/jobs/init_adapter.ts";
import { JobRequestSchema } from "../../src/api/job.ts";
import { parseJobSpec, settingsOf } from "../../src/jobs/spec.ts";
import { JobStore } from "../../src/jobs/store.ts";
import { parseWith } from "../../src/validation.ts";

/** Saved by PEFT: r 2, alpha 4, dropout 0.05 on q_proj, v_proj and down_proj; its base's config.json beside it. */
const root = new URL("../fixtures/peft_adapter", import.meta.url).pathname;

async function withFolders(
  test: (folders: { root: string; state: string; store: JobStore }) => Promise<void>,
): Promise<void> {
  const state = await Deno.makeTempDir();
  const store = new JobStore(join(state, "jobs.sqlite"));
  try {
    await test({ root, state, store });
  } finally {
    store.close();
    await Deno.remove(state, { recursive: true });
  }
}

const requestOf = (lora: Record<string, unknown>) =>
  parseWith(JobRequestSchema, { model: ".", dataset: { path: "rows.jsonl" }, lora });

Deno.test("withInitAdapter() gives a job the form of the adapter that it goes on from", () =>
  withFolders(async (folders) => {
    const lora = async (fields: Record<string, unknown>) =>
      settingsOf(await withInitAdapter(requestOf({ init_adapter: ".", ...fields }), folders))
        .lora;
    const expected = {
      r: 2,
      alpha: 4,
      dropout: 0.05,
      target_modules: ["q_proj", "v_proj", "down_proj"],
      use_rslora: false,
      modules_to_save: [],
      ensure_weight_tying: false,
      init_adapter: ".",
    };
    assert.deepEqual(await lora({}), expected);
    const agreeing = { r: 2, alpha: 4, use_rslora: false, target_modules: ["down_proj", "q_proj", "v_proj"] };
    assert.deepEqual(await lora({ ...agreeing, dropout: 0 }), { ...expected, dropout: 0 });
    const plain = requestOf({ r: 3, init_adapter: null });
    assert.equal(await withInitAdapter(plain, folders), plain);
  }));

Deno.test("withInitAdapter() leaves the templates to the model where the adapter's are its own, and asks which where not", () =>
  withFolders(async ({ state, store }) => {
    const copied = join(state, "root");
    const write = async (name: string, templates: readonly unknown[]) => {
      await Deno.mkdir(join(copied, name), { recursive: true });
      for (const file of ["config.json", "adapter_config.json", "adapter_model.safetensors"]) {
        await Deno.copyFile(join(root, file), join(copied, name, file));
      }
      const config = JSON.stringify({ chat_template: templates });
      await Deno.writeTextFile(join(copied, name, "tokenizer_config.json"), config);
    };
    const [plain, tools] = [{ name: "default", template: "{{ 1 }}" }, {
      name: "tool_use",
      template: "{{ 2 }}",
    }];
    await write("model", [plain, tools]);
    await write("same", [plain, tools]);
    await write("other", [plain, { ...tools, template: "{{ 3 }}" }]);
    await write("one", [plain]);
    const templateOf = async (init_adapter: string, chat_template?: string) => {
      const request = { ...requestOf({ init_adapter }), model: "model", chat_template };
      return (await withInitAdapter(request, { root: copied, state, store })).chat_template;
    };
    assert.equal(await templateOf("same"), null);
    assert.equal(await templateOf("one"), "{{ 1 }}");
    assert.equal(await templateOf("other", "tool_use"), "{{ 3 }}");
    await assert.rejects(templateOf("other"), {
      name: "InputError",
      message: /give "default" or "tool_use"/,
    });
  }));

for (
  const [fields, field, message] of [
    [{ r: 4 }, "lora.r", /^lora\.r is 4, but 2 in the adapter that training goes on from\.$/],
    [{ alpha: 8 }, "lora.alpha", /is 8, but 4 in/],
    [{ use_rslora: true }, "lora.use_rslora", /is true, but false in/],
    [{ target_modules: ["q_proj"] }, "lora.target_modules", /\["q_proj"\], but \["q_proj","v_proj",/],
    [{ target_modules: "all-linear" }, "lora.target_modules", /"all-linear", but/],
    [{ init_adapter: "../fixtures" }, "lora.init_adapter", /must not climb out/],
    [{ init_adapter: "none" }, "lora.init_adapter", /names no directory under the root/],
  ] as const
) {
  Deno.test(`withInitAdapter() refuses ${JSON.stringify(fields)}`, () =>
    withFolders(async (folders) => {
      await assert.rejects(
        withInitAdapter(requestOf({ init_adapter: ".", ...fields }), folders),
        (error) => {
          assert.ok(error instanceof InputError, String(error));
          assert.equal(error.field, field);
          assert.match(error.message, message);
          return true;
        },
      );
    }));
}

/** Adapters by PEFT beside their base models. */
const values = new URL("../reference/values", import.meta.url).pathname;

/** Those of the adapter llama_patterns. */
const PATTERNS = {
  rank_pattern: { q_proj: 5, "layers.1.mlp.down_proj": 1 },
  alpha_pattern: { ".*0.self_attn.q_proj": 7, k_proj: 2 },
};

Deno.test("withInitAdapter() takes an adapter's saved modules and patterns, and refuses others", () =>
  withFolders(async (folders) => {
    const lora = async (adapter: string, family: string, fields: Record<string, unknown> = {}) => {
      const request = parseWith(JobRequestSchema, {
        model: `families/${family}`,
        dataset: { path: "rows.jsonl" },
        lora: { init_adapter: `peft/${adapter}`, ...fields },
      });
      return settingsOf(await withInitAdapter(request, { ...folders, root: values })).lora!;
    };
    const tied = await lora("gemma3_tied", "gemma3_text");
    assert.deepEqual(tied.modules_to_save, ["model.embed_tokens"]);
    assert.equal(tied.ensure_weight_tying, true);
    const same = await lora("gemma3_tied", "gemma3_text", {
      modules_to_save: ["lm_head"],
      ensure_weight_tying: true,
    });
    assert.deepEqual(same, tied);
    const gpt2 = await lora("gpt2_saved", "gpt2", { modules_to_save: ["c_fc", "wpe", "lm_head", "ln_f"] });
    assert.deepEqual(gpt2.target_modules, ["c_attn"]);
    assert.deepEqual((await lora("gpt2", "gpt2")).target_modules, ["c_attn", "c_proj", "c_fc"]);
    const refused = (field: string, message: RegExp, ...request: Parameters<typeof lora>) =>
      assert.rejects(lora(...request), (error) => {
        assert.ok(error instanceof InputError, `${error}`);
        assert.equal(error.field, field);
        assert.match(error.message, message);
        return true;
      });
    await refused("lora.modules_to_save", /is \["norm"\], but \["v_proj"\] in/, "qwen2_values", "qwen2", {
      modules_to_save: ["norm"],
    });
    await refused("lora.modules_to_save", /is \[\], but/, "qwen2_values", "qwen2", { modules_to_save: [] });
    await refused("lora.ensure_weight_tying", /is false, but true in/, "gemma3_tied", "gemma3_text", {
      ensure_weight_tying: false,
    });
    const patterns = await lora("llama_patterns", "llama_llama3", { rank_pattern: PATTERNS.rank_pattern });
    assert.deepEqual([patterns.rank_pattern, patterns.alpha_pattern], Object.values(PATTERNS));
    assert.deepEqual((await lora("gpt2", "gpt2", { rank_pattern: {} })).rank_pattern, {});
    await refused(
      "lora.rank_pattern",
      /is \{"q_proj":4\}, but \{"layers\.1/,
      "llama_patterns",
      "llama_llama3",
      {
        rank_pattern: { q_proj: 4 },
      },
    );
  }));

Deno.test("resolveInitAdapter() takes a job that has learned an adapter, and no other", () =>
  withFolders(async (folders) => {
    const { state, store } = folders;
    const id = "job-0123456789abcdef0123";
    store.create(id, parseJobSpec({ model: ".", dataset: { path: "rows.jsonl" } }));
    await assert.rejects(resolveInitAdapter(folders, id), {
      message: /has neither a result nor a checkpoint/,
    });
    const result = join(jobFolder(state, id), "result");
    await Deno.mkdir(result, { recursive: true });
    await Deno.writeTextFile(join(result, "model.safetensors"), "");
    await assert.rejects(resolveInitAdapter(folders, id), {
      message: /init_adapter "job-.*" holds no adapter\.$/,
    });
    await Deno.writeTextFile(join(result, "adapter_config.json"), "{}");
    assert.equal(await resolveInitAdapter(folders, id), result);
  }));
