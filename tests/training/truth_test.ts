/** A job that succeeds has learned finite numbers of the rows and the model that it began with. */
import assert from "node:assert/strict";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { InputError } from "../../src/errors.ts";
import type { TrainEvent } from "../../src/training/request.ts";
import { filesOf } from "../engine/_lab.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { inFolder } from "../helpers/folder.ts";
import { datasetOf } from "../helpers/settings.ts";
import { variant } from "../helpers/tier.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { type RunOptions, runTiny } from "./_run.ts";

/** Without those that rows are cut. */
const warningsOf = (events: readonly TrainEvent[]) =>
  events.flatMap((event) =>
    event.type === "warning" && !event.message.startsWith("train: ") ? event.message : []
  );

const LENGTHS = { max_length: 24, max_prompt_length: 16 };

const divergences: [name: string, at: RegExp, options: RunOptions][] = [
  [
    "an adapter after its only step",
    /\.lora_[AB] at step 1 is /,
    { settings: { learning_rate: 1e39 }, spec: LENGTHS },
  ],
  [
    "all weights after their only step",
    /model\.\S+weight at step 1 is /,
    { settings: { learning_rate: 1e39 }, spec: { ...LENGTHS, lora: null } },
  ],
  [
    "saved modules",
    /\S+ at step 1 is /,
    {
      settings: { learning_rate: 1e39 },
      spec: { ...LENGTHS, lora: { r: 1, target_modules: ["v_proj"], modules_to_save: ["lm_head"] } },
    },
  ],
  [
    "a constant that is 0 in f32",
    /\.lora_A at step 1 is NaN/,
    { settings: { adam_epsilon: 1e-60 }, spec: LENGTHS },
  ],
  [
    "an evaluation",
    /: eval_\S+ at step 1 is /,
    { settings: { learning_rate: 1e38 }, spec: { ...LENGTHS, lora: null, eval_fraction: 0.25 } },
  ],
  [
    "a step between two logged ones",
    /: \S+ at step 2 is /,
    {
      settings: { learning_rate: 1e30 },
      spec: { ...LENGTHS, lora: null, max_steps: 4, logging_steps: 4, save_steps: 2, max_grad_norm: 0 },
    },
  ],
];
for (const [i, [name, at, options]] of divergences.entries()) {
  // adapter, evaluation and window; the others are of the same kinds
  variant([0, 4, 5].includes(i))(
    `train() fails at the step in which ${name} is no number, and names it`,
    () =>
      inFolder(async (directory) => {
        await assert.rejects(runTiny({ ...options, directory }), (error) => {
          assert.ok(error instanceof InputError, String(error));
          assert.match(error.message, /^Training diverged: .* at step \d is (NaN|-?Infinity)\.$/);
          assert.match(error.message, at);
          assert.equal(error.field, "learning_rate");
          return true;
        });
        const left = (await Array.fromAsync(Deno.readDir(directory), ({ name }) => name)).sort();
        assert.ok(!left.includes("result") && !left.includes("result.partial"), `${left}`);
      }),
  );
}

Deno.test("train() blames no learning rate for what is no number before the first update", async () => {
  const prepare = async (model: string) => {
    const path = join(model, "model.safetensors");
    const bytes = await Deno.readFile(path);
    const view = new DataView(bytes.buffer);
    const begin = 8 + Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, begin)));
    const [from, to] = header["model.layers.0.self_attn.q_proj.weight"].data_offsets;
    for (let at = from; at < to; at += 4) view.setFloat32(begin + at, 3e38, true);
    await Deno.writeFile(path, bytes);
  };
  await assert.rejects(runTiny({ spec: LENGTHS, prepare }), (error) => {
    assert.ok(error instanceof InputError, String(error));
    assert.match(error.message, /^\S+ at step 1 is (NaN|-?Infinity) before anything was learned: /);
    assert.equal(error.field, "model");
    return true;
  });
});

const FOUR = {
  max_steps: 4,
  save_steps: 2,
  logging_steps: 3,
  batch_size: 4,
  lora: { r: 1, target_modules: ["q_proj", "down_proj"] },
  ...LENGTHS,
};

Deno.test("train() goes on from a checkpoint of version 1, and says what it does not know", () =>
  inFolder(async (directory) => {
    const checkpoint = join(directory, "checkpoints", "step-000002");
    await Deno.mkdir(checkpoint, { recursive: true });
    const fixture = fileURLToPath(new URL("../fixtures/checkpoint_v1", import.meta.url));
    for await (const { name } of Deno.readDir(fixture)) {
      await Deno.copyFile(join(fixture, name), join(checkpoint, name));
    }
    const metricsOf = (events: readonly TrainEvent[]) =>
      events.flatMap((event) => event.type === "metrics" ? [[event.step, event.metrics] as const] : []);
    const { outcome, events } = await runTiny({ directory, spec: FOUR });
    assert.deepEqual(outcome, { outcome: "succeeded", step: 4 });
    assert.deepEqual(events.find(({ type }) => type === "status"), {
      type: "status",
      status: "running",
      total_steps: 4,
      resumed_from: 2,
    });
    assert.match(warningsOf(events)[0]!, /^The checkpoint of step 2 is of version 1, which keeps no finger/);
    // the window of the first two steps among them
    const whole = metricsOf((await runTiny({ spec: FOUR })).events);
    const resumed = metricsOf(events);
    assert.deepEqual(resumed.map(([step]) => step), [3, 4]);
    for (const [i, [, metrics]] of resumed.entries()) {
      for (const [name, value] of Object.entries(metrics)) {
        assertClose([value], [whole[i]![1][name]!], { rtol: 1e-3, atol: 1e-4, name });
      }
    }
  }));

/** Rows as a file, and what becomes of them or of the model between two lives. */
type Change = (paths: { readonly rows: string; readonly model: string }) => Promise<void>;

const lines = (rows: readonly unknown[]) => rows.map((row) => JSON.stringify(row)).join("\n");
const edit = (name: string, from: string, to: string): Change => async ({ model }) => {
  const text = await Deno.readTextFile(join(model, name));
  assert.ok(text.includes(from), text);
  await Deno.writeTextFile(join(model, name), text.replace(from, to));
};

const changes: [name: string, field: string, what: RegExp, change: Change][] = [
  [
    "shuffled rows",
    "dataset",
    /^rows\.jsonl of the data set has changed since/,
    ({ rows }) => Deno.writeTextFile(rows, lines(plainRows(8).reverse())),
  ],
  [
    "a further row",
    "dataset",
    /^rows\.jsonl of the data set has changed from \d+ to \d+ bytes since/,
    ({ rows }) => Deno.writeTextFile(rows, lines(plainRows(9))),
  ],
  [
    "a weight of one other bit",
    "model",
    /^model\.safetensors of the model has changed since/,
    async ({ model }) => {
      const path = join(model, "model.safetensors");
      const bytes = await Deno.readFile(path);
      bytes[bytes.length - 100]! ^= 1;
      await Deno.writeFile(path, bytes);
    },
  ],
  [
    "another configuration",
    "model",
    /^config\.json of the model has changed /,
    edit("config.json", "10000", "20000"),
  ],
  [
    "another tokenizer",
    "model",
    /^The tokenizer of the model has changed since/,
    edit("tokenizer.json", '"single_word":false', '"single_word":true'),
  ],
  [
    "another chat template",
    "model",
    /^The chat template of the model has changed since/,
    edit("tokenizer_config.json", "<|end|>{%", "<|end|> {%"),
  ],
  [
    "rows and weights",
    "dataset",
    /^rows\.jsonl of the data set has changed, and config\.json of the model has changed .*since/,
    async (paths) => {
      await Deno.writeTextFile(paths.rows, lines(plainRows(8).reverse()));
      await edit("config.json", "10000", "20000")(paths);
    },
  ],
];

const weightsIn = (directory: string) =>
  Deno.readFile(join(directory, "result", "adapter_model.safetensors"));

/** A life that is stopped after step 2, where `save_steps` leaves a checkpoint. */
async function begin(options: RunOptions): Promise<void> {
  let saved = false;
  const { outcome } = await runTiny({
    ...options,
    onEvent: ({ type }) => saved ||= type === "checkpoint",
    context: { between: () => Promise.resolve(saved ? "stop" : "continue") },
  });
  assert.deepEqual(outcome, { outcome: "stopped", step: 2 });
}

/** A folder with rows and a job of them that was stopped after step 2; made once, then copied. */
const begun = Deno.makeTempDir().then(async (directory) => {
  await Deno.writeTextFile(join(directory, "rows.jsonl"), lines(plainRows(8)));
  await begin({ directory, spec: FOUR, dataset: { path: join(directory, "rows.jsonl") } });
  return directory;
});
Deno.test.afterAll(async () => await Deno.remove(await begun, { recursive: true }));

/** Gives a test the begun job. */
const inBegun = (
  work: (options: RunOptions & { readonly directory: string }, rows: string) => Promise<void>,
) =>
  inFolder(async (folder) => {
    const directory = join(folder, basename(await begun)); // the job's own name
    await copyFolder(await begun, directory);
    const rows = join(directory, "rows.jsonl");
    await work({ directory, spec: FOUR, dataset: { path: rows } }, rows);
  });

async function copyFolder(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for (const [name, bytes] of Object.entries(await filesOf(from))) {
    await Deno.mkdir(dirname(join(to, name)), { recursive: true });
    await Deno.writeFile(join(to, name), bytes);
  }
}

for (const [i, [name, field, what, change]] of changes.entries()) {
  Deno.test(`train() refuses to go on over ${name}, unless changes are accepted`, () =>
    inBegun(async (options, rows) => {
      const changed = { ...options, prepare: (model: string) => change({ rows, model }) };
      const before = await filesOf(join(options.directory, "checkpoints"));
      await assert.rejects(runTiny(changed), (error) => {
        assert.ok(error instanceof InputError, String(error));
        assert.match(error.message, what);
        assert.match(error.message, /since the checkpoint of step 2 was written: the run would go on over /);
        assert.equal(error.field, field);
        assert.match(error.problem.accepted!, /accept_changes true/);
        return true;
      });
      assert.deepEqual(await filesOf(join(options.directory, "checkpoints")), before);
      if (i % 2 === 1) return; // the rest is the same for all
      const { outcome, events } = await runTiny({ ...changed, acceptChanges: true });
      assert.deepEqual(outcome, { outcome: "succeeded", step: 4 });
      const said = warningsOf(events).filter((message) => what.test(message));
      assert.equal(said.length, 1, `${warningsOf(events)}`);
      assert.match(said[0]!, /the run goes on over what is there now, as accept_changes asks\.$/);
      if (i > 0) return;
      // the new checkpoint is of what was accepted
      assert.deepEqual(warningsOf((await runTiny(changed)).events), []);
    }));
}

Deno.test("train() goes on over files that were written again as they were, and over tokens whose rows have gone", () =>
  inBegun(async (options, rows) => {
    const whole = join(options.directory, "whole");
    await Deno.mkdir(whole);
    await runTiny({ ...options, directory: whole });
    await Deno.utime(rows, 1, 1);
    for (const dataset of [{ paths: [] }, { path: rows }]) {
      const { outcome, events } = await runTiny({ ...options, dataset });
      assert.deepEqual([outcome.step, warningsOf(events)], [4, []]);
    }
    assert.deepEqual(await weightsIn(options.directory), await weightsIn(whole));
  }));

Deno.test("train() over accepted weights goes on from the tokens of rows that have gone", () =>
  inBegun(async (options) => {
    const prepare = (model: string) => edit("config.json", "10000", "20000")({ rows: "", model });
    const run = { ...options, dataset: { paths: [] }, prepare, acceptChanges: true };
    const { outcome, events } = await runTiny(run);
    assert.deepEqual(outcome, { outcome: "succeeded", step: 4 });
    assert.equal(warningsOf(events).length, 1, `${warningsOf(events)}`);
  }));

Deno.test("train() without a checkpoint begins anew over changed rows, and says so", () =>
  inFolder(async (directory) => {
    const rows = join(directory, "rows.jsonl");
    await Deno.writeTextFile(rows, lines(plainRows(8)));
    const options = { directory, spec: FOUR, dataset: { path: rows } };
    let planned = false;
    const context = { between: () => Promise.resolve(planned ? "cancel" as const : "continue" as const) };
    const first = await runTiny({ ...options, context, onEvent: ({ type }) => planned ||= type === "plan" });
    assert.deepEqual(first.outcome, { outcome: "cancelled", step: 0 });
    await Deno.writeTextFile(rows, lines(plainRows(8).reverse()));
    const { events } = await runTiny(options);
    assert.deepEqual(warningsOf(events), [
      `${basename(rows)} of the data set has changed since the job was first begun: it begins anew.`,
    ]);
    const whole = join(directory, "whole");
    await Deno.mkdir(whole);
    await runTiny({ ...options, directory: whole });
    assert.deepEqual(await weightsIn(directory), await weightsIn(whole));
  }));

Deno.test("train() makes tokens that were damaged anew, and refuses them where they come out otherwise", () =>
  inBegun(async (options) => {
    const tokens = join(options.directory, "tokens", "tokens.bin");
    await Deno.truncate(tokens, 100);
    await assert.rejects(
      // as rows that came with the request and were changed in the data base
      runTiny({ ...options, dataset: datasetOf(plainRows(8, 9)) }),
      /^InputError: The rows as tokens have changed since the checkpoint of step 2 was written/,
    );
    await Deno.truncate(tokens, 100);
    await assert.rejects(
      runTiny({ ...options, dataset: { paths: [] } }),
      /^InputError: The job's rows as tokens are damaged, and the files of dataset have gone\.$/,
    );
    const { outcome, events } = await runTiny(options);
    assert.deepEqual([outcome.outcome, warningsOf(events)], ["succeeded", []]);
  }));
