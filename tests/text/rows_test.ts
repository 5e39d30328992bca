/** What becomes of a job whose rows, tokenizer or template never end, and of what goes on beside it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { encodeBatch } from "../../src/preference/encode_batch.ts";
import { EncodePool } from "../../src/preference/encode_pool.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { TextThread } from "../../src/text/thread.ts";
import { TokenFile } from "../../src/training/token_file.ts";
import { tokenFolder } from "../../src/training/token_files.ts";
import type { Dataset, TrainEvent, TrainRequest } from "../../src/training/request.ts";
import { datasetOf, settingsOf } from "../helpers/settings.ts";
import { plainRows, writeTinyModel } from "../helpers/tiny_model.ts";

const folder = await Deno.makeTempDir({ prefix: "simpo-" });
Deno.test.afterAll(() => Deno.remove(folder, { recursive: true }));
const model = await writeTinyModel(join(folder, "model"));
const hostile = await writeTinyModel(join(folder, "hostile"));
const path = join(hostile, "tokenizer.json");
const json = JSON.parse(await Deno.readTextFile(path));
json.pre_tokenizer = { type: "Split", pattern: { Regex: "(a+)+$" }, behavior: "Isolated", invert: false };
await Deno.writeTextFile(path, JSON.stringify(json));

const CATASTROPHIC = `${"a".repeat(40)}!`;
const bad = { prompt: "the", chosen: CATASTROPHIC, rejected: " out" };

function request(name: string, own: string, dataset: Dataset): TrainRequest {
  const settings = settingsOf({ max_length: 24, max_prompt_length: 16 });
  const directory = join(folder, name);
  return { id: name, model: own, dataset, eval_dataset: null, settings, init_adapter: null, directory };
}

const SHAPE = "{prompt, chosen, rejected}";

async function withThread(work: (thread: TextThread) => Promise<void>): Promise<void> {
  const thread = new TextThread({ seconds: 1.5, heapMb: 100 });
  try {
    await work(thread);
  } finally {
    thread.stop(new Error("The test is over."));
  }
}

Deno.test("the call rows writes a job's tokens, tells what they were read as, and reads them once", async () => {
  await withThread(async (thread) => {
    const events: TrainEvent[] = [];
    const asked = request("plain", model, datasetOf(plainRows(8)));
    await thread.call("rows", asked, undefined, (event) => events.push(event));
    assert.deepEqual(events[0], {
      type: "rows",
      split: "train",
      rows: 8,
      shapes: [{ shape: SHAPE, rows: 8 }],
    });
    const told = events.length;
    using file = TokenFile.open(tokenFolder(asked.directory));
    assert.equal(file.train.length, 8);
    await thread.call("rows", { ...asked, dataset: { path: "/nowhere" } }, undefined, (e) => events.push(e));
    assert.equal(events.length, told);
  });
});

Deno.test("the call rows refuses a file that is read for ever, and blames no tokenizer", async () => {
  await withThread(async (thread) => {
    const empty = join(folder, "empty.jsonl");
    await Deno.writeTextFile(empty, "\n".repeat(2 ** 26));
    await thread.call("rows", request("before", model, datasetOf(plainRows(8))));
    await assert.rejects(thread.call("rows", request("empty", model, { path: empty })), {
      name: "InputError",
      message: /^Reading the data set's files took more than 1.5 s or more than 100 MB of memory\.$/,
    });
  });
});

Deno.test("the call rows refuses rows that a tokenizer's pattern never ends with, naming the row", async () => {
  await withThread(async (thread) => {
    const rows = datasetOf([...plainRows(8), bad]);
    await assert.rejects(thread.call("rows", request("pattern", hostile, rows)), {
      name: "InputError",
      field: "row 9",
      message: /in row 9 took more than 1.5 s or more than 100 MB of memory/,
    });
  });
});

Deno.test("the call rows leaves out a row nested ten thousand deep, or a thousand, or of lists, and goes on", async () => {
  const file = join(folder, "rows.jsonl");
  const deep = (open: string, close: string, times: number) =>
    `{"prompt": "a", "chosen": ${open.repeat(times)}1${close.repeat(times)}, "rejected": "b"}`;
  const lines = [
    deep('{"a":', "}", 10_000),
    deep("[", "]", 10_000),
    deep('[{"content":', "}]", 1_000),
    `{"prompt": "a", "chosen": " out", "rejected": "an", "extra": ${"[".repeat(10_000)}${
      "]".repeat(10_000)
    }}`,
  ];
  const good = plainRows(8).map((row) => JSON.stringify(row));
  await Deno.writeTextFile(file, [...good, ...lines].join("\n"));
  await withThread(async (thread) => {
    const events: TrainEvent[] = [];
    const asked = request("nested", model, { path: file });
    const lenient = { ...asked, settings: { ...asked.settings, max_left_out: 1 } };
    await thread.call("rows", lenient, undefined, (event) => events.push(event));
    const left = events.find((event) => event.type === "left_out");
    assert.ok(left && left.count >= 3, JSON.stringify(left));
  });
});

Deno.test("EncodePool refuses a row that never ends, by its number, and whoever comes after", async () => {
  const settings = {
    max_length: 24,
    max_prompt_length: 16,
    truncation_mode: "keep_end",
    prompt_boundary: "trl",
  } as const;
  const job = { model: hostile, chat_template: null, settings, vocabulary: 1000 };
  using pool = new EncodePool(job, { size: 1, seconds: 2 });
  await pool.start();
  const good = [{ row: 1, prompt: "the", responses: [" out", " an"] }];
  const tokenizer = await loadTokenizer(hostile);
  assert.deepEqual(await pool.encode(good), encodeBatch(tokenizer, good, settings, 1000));
  const never = [good[0]!, { row: 7, prompt: CATASTROPHIC, responses: [" out"] }];
  const refused = {
    name: "InputError",
    field: "row 7",
    message: /^Making tokens of row 7 took more than 2 s/,
  };
  await assert.rejects(pool.encode(never)!, refused);
  await assert.rejects(pool.encode(good)!, refused);
});
