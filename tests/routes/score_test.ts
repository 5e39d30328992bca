import { configureSync, resetSync } from "@logtape/logtape";
import assert from "node:assert/strict";
import { join } from "node:path";
import { newJobId } from "../../src/jobs/folder.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { formatRecord } from "../../src/log.ts";
import { DEFAULT_ENCODING } from "../../src/scoring/request.ts";
import { FakeEngine, refusal } from "../helpers/fake_engine.ts";
import { gate, type TestService, testService } from "../helpers/service.ts";

const one = { model: "model", prompt: "2 + 2 =", candidates: [" four", " 4"] };
const many = {
  model: "model",
  items: [{ prompt: "a", candidates: ["b"] }, { prompt: "c", candidates: ["dd", "d"] }],
};
const ndjson = { accept: "application/x-ndjson" };

Deno.test("POST /score answers one prompt", async () => {
  await using service = await testService();
  const { status, body } = await service.post("/score", one);
  assert.equal(status, 200);
  assert.deepEqual(body, {
    model: "model",
    results: [
      {
        index: 0,
        rank: 2,
        average_logprob: -5,
        sum_logprob: -25,
        num_tokens: 5,
        reward: -10,
        truncated: false,
        candidate_truncated: false,
      },
      {
        index: 1,
        rank: 1,
        average_logprob: -2,
        sum_logprob: -4,
        num_tokens: 2,
        reward: -4,
        truncated: false,
        candidate_truncated: false,
      },
    ],
    best: 1,
    margin: 3,
    prompt_truncated: 0,
    encoding: {
      prompt_boundary: "trl",
      max_length: 128,
      max_prompt_length: null,
      truncation_mode: "keep_end",
      add_eos_token: true,
      split_special_tokens: null,
      chat_template: "files",
      chat_template_kwargs: null,
      quantization: null,
    },
    usage: { prompt_tokens: 1, cached_prompt_tokens: 0, candidate_tokens: 2, total_tokens: 3 },
  });
  assert.deepEqual(service.engine.scored, [{
    model: join(await Deno.realPath(service.root), "model"),
    adapter: null,
    quantization: null,
    items: [{ prompt: "2 + 2 =", candidates: [" four", " 4"] }],
    chat_template: null,
    encoding: DEFAULT_ENCODING,
    beta: 2,
    token_logprobs: false,
  }]);
});

Deno.test("POST /score answers many prompts with the sum of their usage", async () => {
  await using service = await testService();
  const { status, body } = await service.post("/score", { ...many, beta: 3, token_logprobs: true });
  assert.equal(status, 200);
  assert.deepEqual(Object.keys(body), ["model", "items", "encoding", "usage"]);
  assert.deepEqual(body.items.map(({ best, margin }: { best: number; margin: number }) => [best, margin]), [[
    0,
    null,
  ], [1, 1]]);
  assert.deepEqual(Object.keys(body.items[0]), ["results", "best", "margin", "prompt_truncated"]);
  assert.deepEqual(body.usage, {
    prompt_tokens: 2,
    cached_prompt_tokens: 0,
    candidate_tokens: 4,
    total_tokens: 6,
  });
  assert.equal(body.items[0].results[0].reward, -3);
  assert.deepEqual(body.items[0].results[0].token_logprobs, [-1]);
});

Deno.test("POST /score takes messages and makes each candidate an assistant's turn", async () => {
  await using service = await testService();
  const messages = [{ role: "user", content: "2 + 2 =", name: "kim" }];
  assert.equal((await service.post("/score", { model: "model", messages, candidates: ["4"] })).status, 200);
  assert.equal(
    (await service.post("/score", { model: "model", prompt: messages, candidates: ["4"] })).status,
    200,
  );
  const item = { prompt: messages, candidates: [[{ role: "assistant", content: "4" }]] };
  assert.deepEqual(service.engine.scored.map(({ items }) => items), [[item], [item]]);
});

Deno.test("POST /score hands the request's chat template on", async () => {
  await using service = await testService();
  for (const chat_template of ["{{ messages }}", null]) {
    assert.equal((await service.post("/score", { ...one, chat_template })).status, 200);
  }
  await service.post("/score", one);
  assert.deepEqual(service.engine.scored.map(({ chat_template }) => chat_template), [
    "{{ messages }}",
    null,
    null,
  ]);
});

Deno.test("POST /score streams a line an item, each as it is done", async () => {
  const second = gate();
  await using service = await testService({ beforeItem: (index) => index === 1 ? second.opened : undefined });
  const response = await service.app.request("/score", {
    method: "POST",
    body: JSON.stringify(many),
    headers: { "content-type": "application/json", ...ndjson },
  });
  assert.equal(response.headers.get("content-type"), "application/x-ndjson");
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const first = JSON.parse((await reader.read()).value!);
  assert.deepEqual([first.index, first.best, first.usage.total_tokens], [0, 0, 3]);
  second.open();
  assert.equal(JSON.parse((await reader.read()).value!).index, 1);
  assert.equal((await reader.read()).done, true);
});

Deno.test("POST /score puts an error after the first line into a last line", async () => {
  await using service = await testService({
    beforeItem: (index) => {
      if (index === 1) throw refusal("items", 1, "candidates", 0);
    },
  });
  const { status, body } = await service.post("/score", many, ndjson);
  assert.equal(status, 200);
  const lines = body.trim().split("\n").map((line: string) => JSON.parse(line));
  assert.equal(lines.length, 2);
  assert.equal(lines[0].index, 0);
  assert.deepEqual([lines[1].status, lines[1].field], [422, "items[1].candidates[0]"]);
});

Deno.test("POST /score answers an error before the first line with its status", async () => {
  await using service = await testService({
    beforeItem: () => {
      throw refusal("items", 0, "candidates", 1);
    },
  });
  for (const headers of [{}, ndjson]) {
    const { status, body, headers: answered } = await service.post("/score", one, headers);
    assert.equal(status, 422);
    assert.equal(answered.get("content-type"), "application/problem+json");
    // Whoever sent one prompt knows of no items.
    assert.equal(body.field, "candidates[1]");
    assert.equal(body.detail, "candidates[1] cannot be used.");
  }
});

Deno.test("POST /score names the field that was sent where an item's prompt is refused", async () => {
  await using service = await testService({
    beforeItem: (index) => {
      if (index === 0) throw refusal("items", 0, "prompt");
    },
  });
  for (const [sent, prompt] of [["prompt", "a"], ["messages", [{ role: "user", content: "a" }]]] as const) {
    const item = { candidates: ["b"], [sent]: prompt };
    for (const [body, field] of [[item, sent], [{ items: [item] }, `items[0].${sent}`]] as const) {
      const answer = await service.post("/score", { model: "model", ...body });
      assert.deepEqual([answer.status, answer.body.field], [422, field]);
      assert.equal(answer.body.detail, `${field} cannot be used.`);
    }
  }
});

Deno.test("POST /score gives the scoring up when its reader goes", async () => {
  await using service = await testService();
  const response = await service.app.request("/score", {
    method: "POST",
    body: JSON.stringify({ model: "model", items: Array(50).fill({ prompt: "a", candidates: ["b"] }) }),
    headers: { "content-type": "application/json", ...ndjson },
  });
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  while (service.engine.abandoned === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(service.engine.abandoned, 1);
  assert.equal((await service.post("/score", one)).status, 200);
});

Deno.test("POST /score says nothing of a reader that goes while an item is scored", async () => {
  const second = gate();
  await using service = await testService({ beforeItem: (index) => index === 1 ? second.opened : undefined });
  const logged: string[] = [];
  configureSync({
    sinks: { list: (record) => void logged.push(formatRecord(record)) },
    loggers: [
      { category: ["simpo"], lowestLevel: "warning", sinks: ["list"] },
      { category: ["logtape", "meta"], sinks: [] },
    ],
  });
  try {
    const response = await service.app.request("/score", {
      method: "POST",
      body: JSON.stringify(many),
      headers: { "content-type": "application/json", ...ndjson },
    });
    const reader = response.body!.getReader();
    await reader.read();
    const gone = reader.cancel();
    second.open();
    await gone;
    await new Promise((resolve) => setTimeout(resolve, 0));
    assert.deepEqual(logged, []);
  } finally {
    resetSync();
  }
});

Deno.test("POST /score takes an adapter's folder or a job's newest weights", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: (_, n) => n === 3 ? step.opened : undefined });
  const root = await Deno.realPath(service.root);
  await service.post("/score", { ...one, adapter: "adapter" });
  assert.equal(service.engine.scored[0]?.adapter, join(root, "adapter"));

  const { body: job } = await service.post("/train", { model: "model", dataset: { path: "rows.jsonl" } });
  while ((await service.get(`/train/${job.id}`)).body.progress.step < 2) {
    await new Promise((r) => setTimeout(r, 1));
  }
  assert.equal((await service.post("/score", { ...one, adapter: job.id })).status, 200);
  assert.match(service.engine.scored[1]!.adapter!, new RegExp(`jobs/${job.id}/checkpoints/step-000002$`));
  step.open();
  await service.until(job.id, "succeeded");
  await service.post("/score", { ...one, adapter: job.id });
  assert.match(service.engine.scored[2]!.adapter!, new RegExp(`jobs/${job.id}/result$`));
});

Deno.test("POST /score holds a job's base as the job did, unless the request says otherwise", async () => {
  await using service = await testService();
  const dataset = { path: "rows.jsonl" };
  const { body: job } = await service.post("/train", { model: "model", dataset, quantization: "int8" });
  assert.equal(job.settings.quantization, "int8");
  await service.until(job.id, "succeeded");
  for (
    const [fields, quantization] of [
      [{ adapter: job.id }, "int8"],
      [{ adapter: job.id, quantization: null }, null],
      [{ adapter: "adapter" }, null],
      [{ quantization: "int8" }, "int8"],
      [{ adapter: "adapter", quantization: "int8" }, "int8"],
    ] as const
  ) {
    assert.equal((await service.post("/score", { ...one, ...fields })).status, 200);
    assert.equal(service.engine.scored.at(-1)!.quantization, quantization, JSON.stringify(fields));
  }
});

Deno.test("POST /score takes a job's own encoding, what the request gives before it, and names both", async () => {
  await using service = await testService();
  const own = {
    prompt_boundary: "simpo",
    max_length: 64,
    max_prompt_length: 32,
    truncation_mode: "keep_start",
    chat_template_kwargs: { enable_thinking: true },
    split_special_tokens: true,
  };
  const base = { model: "model", dataset: { path: "rows.jsonl" }, chat_template: "{{ messages }}" };
  const { body: job } = await service.post("/train", { ...base, ...own });
  assert.deepEqual(job.settings.chat_template_kwargs, { enable_thinking: true });
  assert.equal(job.settings.split_special_tokens, true);
  await service.until(job.id, "succeeded");
  const all = { ...own, add_eos_token: true };
  const none = {
    prompt_boundary: "trl",
    max_length: null,
    max_prompt_length: null,
    truncation_mode: "keep_end",
    add_eos_token: true,
    chat_template_kwargs: null,
    split_special_tokens: null,
  };
  const cases: [fields: Record<string, unknown>, encoding: object, template: string][] = [
    [{ adapter: job.id }, all, "job"],
    [{ adapter: job.id, prompt_boundary: "trl" }, { ...all, prompt_boundary: "trl" }, "job"],
    [{ adapter: job.id, max_length: 20 }, { ...all, max_length: 20, max_prompt_length: 19 }, "job"],
    [{ adapter: job.id, max_prompt_length: 9 }, { ...all, max_prompt_length: 9 }, "job"],
    [{ adapter: job.id, max_length: null }, { ...all, max_length: null, max_prompt_length: null }, "job"],
    [{ adapter: job.id, max_prompt_length: null }, { ...all, max_prompt_length: null }, "job"],
    [{ adapter: job.id, truncation_mode: "keep_end" }, { ...all, truncation_mode: "keep_end" }, "job"],
    [{ adapter: job.id, add_eos_token: false }, { ...all, add_eos_token: false }, "job"],
    [{ adapter: job.id, chat_template_kwargs: null }, { ...all, chat_template_kwargs: null }, "job"],
    [{ adapter: job.id, split_special_tokens: false }, { ...all, split_special_tokens: false }, "job"],
    [{ adapter: job.id, split_special_tokens: null }, { ...all, split_special_tokens: null }, "job"],
    [{ adapter: job.id, chat_template: "{{ 1 }}" }, all, "request"],
    [{ split_special_tokens: true }, { ...none, split_special_tokens: true }, "files"],
    [{ adapter: "adapter" }, none, "files"],
    [{}, none, "files"],
    [{ max_length: 300 }, { ...none, max_length: 300, max_prompt_length: 128 }, "files"],
    [{ max_prompt_length: 9 }, { ...none, max_prompt_length: 9 }, "files"],
  ];
  for (const [fields, encoding, whose] of cases) {
    const { status, body } = await service.post("/score", { ...one, ...fields });
    assert.equal(status, 200, JSON.stringify(body));
    const asked = service.engine.scored.at(-1)!;
    assert.deepEqual(asked.encoding, encoding, JSON.stringify(fields));
    assert.equal(asked.chat_template, { job: "{{ messages }}", request: "{{ 1 }}", files: null }[whose]);
    const { max_length, ...rest } = asked.encoding!;
    assert.deepEqual(body.encoding, {
      ...rest,
      max_length: max_length ?? 128,
      chat_template: whose,
      quantization: null,
    });
  }
  const { status, body } = await service.post("/score", { ...one, adapter: job.id, max_prompt_length: 64 });
  assert.deepEqual([status, body.field], [422, "max_prompt_length"]);
  assert.match(body.detail, /must leave room for a response: less than max_length 64, not 64\.$/);
});

Deno.test("POST /score tells its encoding on the first line of many", async () => {
  await using service = await testService();
  const { body } = await service.post("/score", { ...many, prompt_boundary: "simpo" }, ndjson);
  const lines = body.trim().split("\n").map((line: string) => JSON.parse(line));
  assert.equal(lines[0].encoding.prompt_boundary, "simpo");
  assert.deepEqual(lines.map((line: object) => "encoding" in line), [true, false]);
});

Deno.test("POST /score gives one empty candidate of 64 a null score and a reason", async () => {
  await using service = await testService();
  const candidates = Array.from({ length: 64 }, (_, i) => "x".repeat(i));
  const { status, body } = await service.post("/score", { ...one, candidates });
  assert.equal(status, 200);
  assert.deepEqual([body.results[0].average_logprob, body.results[0].rank], [null, null]);
  assert.equal(body.results[0].reason, "The candidate is empty.");
  assert.deepEqual([body.best, body.results[63].rank], [1, 63]);
});

Deno.test("POST /score hands token ids, lists of messages, tools, tool calls and joined parts on", async () => {
  await using service = await testService();
  const tool_calls = [{ type: "function", function: { name: "f", arguments: "{}" } }];
  const tools = [{ type: "function", function: { name: "f" } }];
  const part = (text: string) => ({ type: "text", text });
  const items = [
    { prompt: [1, 2], candidates: [[3], []] },
    {
      messages: [{ role: "user", content: [part("a "), part("b")], name: "kim" }],
      candidates: [[{ role: "assistant", content: null, tool_calls }, { role: "tool", content: "2" }], "c"],
    },
    { prompt: "a", candidates: [[{ role: "assistant", tool_calls, name: null }], "b"] },
    { prompt: "a", candidates: ["b"], tools, chat_template_kwargs: { enable_thinking: true } },
    { prompt: "a", candidates: ["b"], tools: [], chat_template_kwargs: null },
  ];
  const { status, body } = await service.post("/score", { model: "model", items });
  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(service.engine.scored[0]!.items, [
    { prompt: [1, 2], candidates: [[3], []] },
    {
      prompt: [{ role: "user", content: "a b", name: "kim" }],
      candidates: [
        [{ role: "assistant", content: null, tool_calls }, { role: "tool", content: "2" }],
        [{ role: "assistant", content: "c" }],
      ],
    },
    {
      prompt: [{ role: "user", content: "a" }],
      candidates: [[{ role: "assistant", tool_calls }], [{ role: "assistant", content: "b" }]],
    },
    {
      prompt: [{ role: "user", content: "a" }],
      candidates: [[{ role: "assistant", content: "b" }]],
      tools,
      chat_template_kwargs: { enable_thinking: true },
    },
    { prompt: "a", candidates: ["b"] },
  ]);
  await service.post("/score", { ...one, tools, chat_template_kwargs: { a: 1 } });
  const { items: [single], encoding } = service.engine.scored[1]!;
  assert.deepEqual(Object.keys(single!), ["prompt", "candidates", "tools"]);
  assert.deepEqual(encoding!.chat_template_kwargs, { a: 1 });
});

Deno.test("GET /openapi.json says what split_special_tokens makes of special tokens, for /score and /train", async () => {
  await using service = await testService();
  const { ScoreRequest, JobRequest } = (await service.get("/openapi.json")).body.components.schemas;
  for (const { properties } of [ScoreRequest, JobRequest]) {
    assert.match(properties.split_special_tokens.description, /not trusted: .* are ordinary text/);
  }
});

Deno.test("GET /openapi.json says that EOS is added and counted, and which field leaves it out", async () => {
  await using service = await testService();
  const { ScoreRequest, ScoredCandidate } = (await service.get("/openapi.json")).body.components.schemas;
  assert.match(
    ScoreRequest.properties.candidates.description,
    /EOS is added .* unless add_eos_token is false/s,
  );
  assert.match(ScoreRequest.properties.add_eos_token.description, /true where it is left out/);
  assert.match(ScoredCandidate.properties.num_tokens.description, /EOS among them/);
});

Deno.test("POST /score answers 409 where a job has neither a result nor a checkpoint", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: () => step.opened });
  const spec = parseJobSpec({ model: "model", dataset: { path: "rows.jsonl" } });
  const { job } = service.service.store.create(newJobId(), spec);
  const { status, body } = await service.post("/score", { ...one, adapter: job.id });
  assert.equal(status, 409);
  assert.equal(body.detail, `adapter: Job ${job.id} has neither a result nor a checkpoint yet.`);
  step.open();
});

Deno.test("POST /score tells nothing of what broke inside", async () => {
  await using service = await testService({
    beforeItem: () => {
      throw new Error("secret inner workings");
    },
  });
  const { status, body } = await service.post("/score", one);
  assert.equal(status, 500);
  assert.doesNotMatch(JSON.stringify(body), /secret/);
});

Deno.test("POST /score waits for a device that is still starting", async () => {
  const { promise, resolve } = Promise.withResolvers<FakeEngine>();
  await using service = await testService({ engine: promise });
  const answer = service.post("/score", one);
  const early = await Promise.race([answer, new Promise((r) => setTimeout(r, 20))]);
  assert.equal(early, undefined);
  resolve(new FakeEngine());
  assert.equal((await answer).status, 200);
});

const refusals: [name: string, body: unknown, status: number, field: string, detail: RegExp][] = [
  [
    "no candidates",
    { ...one, candidates: [] },
    422,
    "candidates",
    /^candidates must be a list of at least 1 item, not \[\]\.$/,
  ],
  [
    "missing candidates",
    { model: "model", prompt: "a" },
    422,
    "candidates",
    /^candidates is missing: give a list/,
  ],
  [
    "an only candidate that is empty",
    { ...one, candidates: [""] },
    422,
    "candidates[0]",
    /^candidates\[0\] cannot be scored: the candidate is empty\.$/,
  ],
  ["no items", { model: "model", items: [] }, 422, "items", /at least 1 item/],
  [
    "an item without candidates",
    { model: "model", items: [{ prompt: "a", candidates: [] }] },
    422,
    "items[0].candidates",
    /items\[0\]\.candidates must be a list of at least 1 item/,
  ],
  [
    "an item without prompt",
    { model: "model", items: [{ candidates: ["a"] }] },
    422,
    "items[0].prompt",
    /prompt is missing: give one of prompt/,
  ],
  [
    "prompt and messages",
    { ...one, messages: [{ role: "user", content: "a" }] },
    422,
    "prompt",
    /^prompt and messages are both given/,
  ],
  ["prompt and items", { ...one, items: many.items }, 422, "prompt", /^prompt and items are both given/],
  ["no prompt", { model: "model", candidates: ["a"] }, 422, "prompt", /^prompt is missing/],
  [
    "a turn without content",
    { model: "model", messages: [{ role: "user" }], candidates: ["a"] },
    422,
    "messages[0].content",
    /messages\[0\]\.content is missing: give a string/,
  ],
  [
    "a broken chat template",
    { ...one, chat_template: "{% for message in messages %}" },
    422,
    "chat_template",
    /^chat_template is not a Jinja template: ./,
  ],
  [
    "an endless chat template",
    { ...one, chat_template: "a".repeat(65_537) },
    422,
    "chat_template",
    /^chat_template must be a string of at most 65536 characters/,
  ],
  [
    "token ids beside text",
    { ...one, candidates: [" 4", [4]] },
    422,
    "candidates[1]",
    /^candidates\[1\] is token ids beside a prompt of text: give token ids for both, or for neither\.$/,
  ],
  [
    "text beside token ids in an item",
    { model: "model", items: [{ prompt: [1], candidates: [[4], "4"] }] },
    422,
    "items[0].candidates[1]",
    /^items\[0\]\.candidates\[1\] is text beside a prompt of token ids: give token ids for both/,
  ],
  [
    "token ids and texts in one list",
    { ...one, candidates: [[4, "a"]] },
    422,
    "candidates[0]",
    /^candidates\[0\] must be a string, a list of messages or a list of token ids, not \[4,"a"\]\.$/,
  ],
  [
    "tools beside token ids",
    { ...one, prompt: [1], candidates: [[2]], tools: [{}] },
    422,
    "tools",
    /^tools are for chat templates, which write no token ids/,
  ],
  ["tools beside items", { ...many, tools: [{}] }, 422, "tools", /^tools and items are both given/],
  [
    "a token id below 0",
    { ...one, prompt: [1, -1] },
    422,
    "prompt[1]",
    /^prompt\[1\] must be a number of at least 0, not -1\.$/,
  ],
  [
    "a part that is an image",
    {
      ...one,
      candidates: [[{ role: "assistant", content: [{ type: "image_url", image_url: { url: "a" } }] }]],
    },
    422,
    "candidates[0][0].content[0].type",
    /^candidates\[0\]\[0\]\.content\[0\]\.type is "image_url": only text is scored\.$/,
  ],
  [
    "a turn of null without tool calls",
    { ...one, prompt: [{ role: "assistant", content: null, tool_calls: [] }] },
    422,
    "prompt[0].content",
    /^prompt\[0\]\.content must not be null here: give a string, a list of text parts, or null beside tool_calls\.$/,
  ],
  [
    "a candidate's turn without a role",
    { ...one, candidates: ["a", [{ content: "b" }]] },
    422,
    "candidates[1][0].role",
    /^candidates\[1\]\[0\]\.role is missing: give a string\.$/,
  ],
  [
    "an unknown boundary",
    { ...one, prompt_boundary: "dpo" },
    422,
    "prompt_boundary",
    /^prompt_boundary must be "trl" \| "simpo", not "dpo"\.$/,
  ],
  [
    "a max_prompt_length that leaves no room",
    { ...one, max_length: 8, max_prompt_length: 8 },
    422,
    "max_prompt_length",
    /^max_prompt_length must leave room for a response: less than max_length 8, not 8\.$/,
  ],
  [
    "a template's own variable",
    { ...one, chat_template_kwargs: { messages: [] } },
    422,
    "chat_template_kwargs.messages",
    /^chat_template_kwargs\.messages is not a template's variable to give here\.$/,
  ],
  [
    "endless variables of a template",
    { ...one, chat_template_kwargs: { documents: ["a".repeat(65_536)] } },
    422,
    "chat_template_kwargs",
    /^chat_template_kwargs has 65554 characters of JSON: give an object of JSON values, 65536/,
  ],
  [
    "deep variables of a template",
    { ...one, chat_template_kwargs: { a: JSON.parse("[".repeat(100) + "]".repeat(100)) } },
    422,
    "chat_template_kwargs",
    /^chat_template_kwargs is nested more than 64 deep\.$/,
  ],
  [
    "a deep turn",
    { ...one, prompt: [{ role: "user", content: "a", x: JSON.parse("[".repeat(100) + "]".repeat(100)) }] },
    422,
    "prompt[0]",
    /^prompt\[0\] is nested more than 64 deep\.$/,
  ],
  [
    "variables of a template that are a list",
    { ...one, chat_template_kwargs: [] },
    422,
    "chat_template_kwargs",
    /^chat_template_kwargs must be an object or null, not \[\]\.$/,
  ],
  ["a negative beta", { ...one, beta: -1 }, 422, "beta", /^beta must be a number of more than 0, not -1\.$/],
  [
    "an unknown field",
    { ...one, candidate: ["a"] },
    422,
    "candidate",
    /^candidate is not a known field; known are model, adapter, quantization, /,
  ],
  [
    "an unknown model",
    { ...one, model: "models/none" },
    404,
    "model",
    /^model names no directory under the root: "models\/none"\.$/,
  ],
  [
    "a model outside the root by ..",
    { ...one, model: "../model" },
    422,
    "model",
    /must not climb out of its folder with "\.\."/,
  ],
  [
    "a model outside the root by an absolute path",
    { ...one, model: "/etc" },
    422,
    "model",
    /must be relative to the root, not the absolute path "\/etc"/,
  ],
  [
    "a model outside the root by a symbolic link",
    { ...one, model: "outside" },
    422,
    "model",
    /leads out of the root through a symbolic link: "outside"/,
  ],
  ["an adapter outside the root", { ...one, adapter: "../adapter" }, 422, "adapter", /must not climb out/],
  [
    "an unknown job",
    { ...one, adapter: "job-00000000000000000000" },
    404,
    "adapter",
    /adapter names no directory under the root/,
  ],
  [
    "weights of 4 bits",
    { ...one, quantization: "int4" },
    422,
    "quantization",
    /quantization must be "int8" or null, not "int4"/,
  ],
  ["a body that is not JSON", "{", 400, "body", /^The body must be JSON\.$/],
  ["a body that is no object", [], 422, "body", /^body must be an object, not \[\]\.$/],
];

for (const [name, body, status, field, detail] of refusals) {
  Deno.test(`POST /score refuses ${name} and serves the next request`, () =>
    withOutsideLink(async (service) => {
      const answer = await service.post("/score", body);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      assert.equal(answer.headers.get("content-type"), "application/problem+json");
      assert.equal(answer.body.status, status);
      assert.equal(answer.body.field, field);
      assert.match(answer.body.detail, detail);
      assert.equal(typeof answer.body.accepted, "string");
      assert.equal(service.engine.scored.length, name.startsWith("an only candidate") ? 1 : 0);
      assert.equal((await service.post("/score", one)).status, 200);
    }));
}

async function withOutsideLink(test: (service: TestService) => Promise<void>): Promise<void> {
  await using service = await testService();
  await Deno.symlink(Deno.cwd(), join(service.root, "outside"));
  await test(service);
}
