import assert from "node:assert/strict";
import { join } from "node:path";
import { Hub } from "../../src/hub/hub.ts";
import { bytes, commit, startFakeHub } from "../helpers/fake_hub.ts";
import { refusal } from "../helpers/fake_engine.ts";
import { gate, testService } from "../helpers/service.ts";

/** As lm-evaluation-harness's local-completions sends it. */
const asked = { model: "model", temperature: 0, max_tokens: 1, logprobs: 1, seed: 1234, echo: true };

Deno.test("POST /v1/completions answers a text in OpenAI's form, the likeliest next token last", async () => {
  await using service = await testService();
  const { status, body } = await service.post("/v1/completions", { ...asked, prompt: "abc" });
  assert.equal(status, 200);
  const { id, created, ...rest } = body;
  assert.match(id, /^cmpl-[\w-]{36}$/);
  assert.ok(Math.abs(created - Date.now() / 1000) < 60 && Number.isInteger(created));
  assert.deepEqual(rest, {
    object: "text_completion",
    model: "model",
    choices: [{
      index: 0,
      text: "abcb",
      logprobs: {
        tokens: ["a", "b", "c", "b"],
        token_logprobs: [null, -0.5, -2, -0.5],
        top_logprobs: [null, { b: -0.5 }, { b: -0.5, c: -2 }, { b: -0.5 }],
        text_offset: [0, 1, 2, 3],
      },
      finish_reason: "length",
    }],
    usage: {
      prompt_tokens: 3,
      prompt_tokens_details: { cached_tokens: 0 },
      completion_tokens: 1,
      total_tokens: 4,
    },
  });
  assert.deepEqual(service.engine.sequences, [{
    model: join(await Deno.realPath(service.root), "model"),
    adapter: null,
    quantization: null,
    prompts: ["abc"],
    add_special_tokens: true,
    max_tokens: 1,
    prompt_logprobs: true,
  }]);
});

Deno.test("POST /v1/completions takes texts, token ids and lists of them, and answers a choice each", async () => {
  await using service = await testService();
  const texts = async (prompt: unknown) => {
    const { status, body } = await service.post("/v1/completions", { ...asked, prompt });
    assert.equal(status, 200, JSON.stringify(body));
    assert.deepEqual(body.choices.map(({ index }: { index: number }) => index), [
      ...body.choices.keys(),
    ]);
    return body.choices.map(({ text }: { text: string }) => text);
  };
  assert.deepEqual(await texts(["a", "cd"]), ["ab", "cdb"]);
  assert.deepEqual(await texts([97, 99]), ["acb"]);
  assert.deepEqual(await texts([[97], [99, 100]]), ["ab", "cdb"]);
  assert.deepEqual(service.engine.sequences.map(({ prompts }) => prompts), [
    ["a", "cd"],
    [[97, 99]],
    [[97], [99, 100]],
  ]);
});

Deno.test("POST /v1/completions answers what max_tokens, echo and logprobs ask for", async () => {
  await using service = await testService();
  const answer = async (changes: object) => {
    const { status, body } = await service.post("/v1/completions", { ...asked, prompt: "ac", ...changes });
    assert.equal(status, 200, JSON.stringify(body));
    return { ...body.choices[0], usage: body.usage };
  };
  const own = await answer({ max_tokens: 0, temperature: 1, add_special_tokens: false });
  assert.equal(own.text, "ac");
  assert.deepEqual(own.logprobs.token_logprobs, [null, -2]);
  assert.deepEqual(own.usage, {
    prompt_tokens: 2,
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens: 0,
    total_tokens: 2,
  });
  const { max_tokens, add_special_tokens } = service.engine.sequences[0]!;
  assert.deepEqual([max_tokens, add_special_tokens], [0, false]);
  const wholePrompts = () => service.engine.sequences.splice(0).map(({ prompt_logprobs }) => prompt_logprobs);
  wholePrompts();
  const next = await answer({ echo: false });
  assert.equal(next.text, "b");
  assert.deepEqual(next.logprobs, {
    tokens: ["b"],
    token_logprobs: [-0.5],
    top_logprobs: [{ b: -0.5 }],
    text_offset: [0],
  });
  assert.equal((await answer({ logprobs: null })).logprobs, null);
  assert.deepEqual(wholePrompts(), [false, false]);
  assert.deepEqual((await answer({ logprobs: 0 })).logprobs.top_logprobs, [null, { c: -2 }, { b: -0.5 }]);
});

Deno.test("POST /v1/completions tells apart two tokens of the same text", async () => {
  await using service = await testService();
  service.engine.handlers.sequences = (_, { onItem }) => {
    const likeliest = [7, 8].map((id) => ({ id, token: "\ufffd", logprob: -0.1 }));
    onItem?.({
      text: "é",
      token_ids: [1, 2],
      tokens: ["\ufffd", "\ufffd"],
      token_logprobs: [-3],
      likeliest,
      cached_prompt_tokens: 0,
    });
    return Promise.resolve(null);
  };
  const { body } = await service.post("/v1/completions", { ...asked, prompt: "é" });
  assert.deepEqual(body.choices[0].logprobs.top_logprobs[1], { "token_id:7": -0.1, "\ufffd": -3 });
});

Deno.test("POST /v1/completions counts text offsets in characters", async () => {
  await using service = await testService();
  const { body } = await service.post("/v1/completions", { ...asked, prompt: "a😀b" });
  assert.deepEqual(body.choices[0].logprobs.text_offset, [0, 1, 2, 3]);
});

for (
  const [name, changes, field, detail] of [
    ["no prompt", { prompt: undefined }, "prompt", /^prompt is missing: give a text, a list of texts/],
    ["an empty text", { prompt: "" }, "prompt", /^prompt must be a string of at least 1 character, not ""/],
    ["no texts", { prompt: [] }, "prompt", /none of them empty/],
    ["an empty text among others", { prompt: ["a", ""] }, "prompt[1]", /^prompt\[1\] must be a string of/],
    ["no token ids", { prompt: [[]] }, "prompt[0]", /^prompt\[0\] must be a list of at least 1 item/],
    ["a negative token id", { prompt: [1, -1] }, "prompt[1]", /^prompt\[1\] must be a number of at least 0/],
    ["texts beside token ids", { prompt: ["a", [1]] }, "prompt", /none of them empty/],
    ["no max_tokens", { max_tokens: undefined }, "max_tokens", /^max_tokens is missing: give 0 \| 1\.$/],
    ["max_tokens 16", { max_tokens: 16 }, "max_tokens", /^max_tokens must be 0 \| 1, not 16\.$/],
    ["logprobs 5", { logprobs: 5 }, "logprobs", /^logprobs must be a(n?) .*at most 1, not 5\.$/],
    ["nothing to answer", { max_tokens: 0, echo: false }, "echo", /^max_tokens is 0 and echo is not true/],
    ["sampling", { temperature: 0.7 }, "temperature", /^temperature must be 0/],
    ["several choices", { n: 2 }, "n", /^n must be 1, not 2\.$/],
    ["streaming", { stream: true }, "stream", /^stream must be false, not true\.$/],
    ["a suffix", { suffix: "x" }, "suffix", /^suffix must be null/],
    ["an unknown field", { prompt_logprobs: 1 }, "prompt_logprobs", /^prompt_logprobs is not a known field/],
    ["an unknown model", { model: "nowhere" }, "model", /^model names no directory under the root/],
    ["a model outside the root", { model: "../model" }, "model", /must not climb out/],
  ] as const
) {
  Deno.test(`POST /v1/completions refuses ${name}, in OpenAI's form too`, async () => {
    await using service = await testService();
    const { status, headers, body } = await service.post("/v1/completions", {
      ...asked,
      prompt: "a",
      ...changes,
    });
    assert.equal(status, name === "an unknown model" ? 404 : 422);
    assert.equal(headers.get("content-type"), "application/problem+json");
    assert.match(body.detail, detail);
    assert.equal(body.field, field);
    assert.deepEqual(body.error, {
      message: body.detail,
      type: "invalid_request_error",
      param: field,
      code: null,
    });
    assert.deepEqual(service.engine.sequences, []);
    const next = await service.post("/v1/completions", { ...asked, prompt: "a" });
    assert.equal(next.status, 200);
  });
}

Deno.test("POST /v1/completions names the prompt that the engine refuses as its sender knows it", async () => {
  await using service = await testService({
    beforeItem: (index) => {
      throw refusal("prompt", index);
    },
  });
  for (const [prompt, field] of [["a", "prompt"], [[1, 2], "prompt"], [["a"], "prompt[0]"]]) {
    const { status, body } = await service.post("/v1/completions", { ...asked, prompt });
    assert.deepEqual([status, body.field, body.error.param], [422, field, field]);
    assert.equal(body.detail, `${field} cannot be used.`);
  }
});

Deno.test("only errors under /v1 have OpenAI's form", async () => {
  await using service = await testService();
  const [ours, theirs] = [await service.get("/nowhere"), await service.get("/v1/chat/completions")];
  assert.deepEqual([ours.status, theirs.status], [404, 404]);
  assert.equal(ours.body.error, undefined);
  assert.equal(theirs.body.error.message, theirs.body.detail);
});

Deno.test("a job's id is a model: its base with its result", async () => {
  await using service = await testService();
  const dataset = { rows: [{ prompt: "a", chosen: "b", rejected: "c" }] };
  const { body: { id } } = await service.post("/train", { model: "model", dataset, quantization: "int8" });
  await service.until(id, "succeeded");
  const { status, body } = await service.post("/v1/completions", { ...asked, model: id, prompt: "a" });
  assert.equal(status, 200, JSON.stringify(body));
  assert.equal(body.model, id);
  const { model, adapter, quantization } = service.engine.sequences[0]!;
  assert.equal(model, join(await Deno.realPath(service.root), "model"));
  assert.equal(adapter, join(service.service.config.state, "jobs", id, "result"));
  assert.equal(quantization, "int8");
  await service.post("/v1/completions", { ...asked, model: id, prompt: "a", quantization: null });
  assert.equal(service.engine.sequences[1]!.quantization, null);

  const { body: { data } } = await service.get("/v1/models");
  assert.deepEqual(data.find((each: { id: string }) => each.id === id).parent, "model");
});

Deno.test("a model of the hub is downloaded", async () => {
  await using fake = startFakeHub();
  const config = new TextEncoder().encode("{}");
  fake.repositories.set("org/name", new Map([["config.json", config], ["model.safetensors", bytes(9)]]));
  const cache = await Deno.makeTempDir();
  try {
    const hub = new Hub({ cache, endpoint: fake.url, token: null, retryMs: 1 });
    await using service = await testService({ hub });
    const body = { ...asked, model: "hf://org/name", prompt: "a" };
    assert.equal((await service.post("/v1/completions", body)).status, 200);
    assert.equal(service.engine.sequences[0]!.model, join(cache, "models/org/name", commit));
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test("a job without weights is refused as a model", async () => {
  const { opened, open } = gate();
  await using service = await testService({ beforeStep: () => opened });
  const dataset = { rows: [{ prompt: "a", chosen: "b", rejected: "c" }] };
  const { body: { id } } = await service.post("/train", { model: "model", dataset });
  const { status, body } = await service.post("/v1/completions", { ...asked, model: id, prompt: "a" });
  assert.deepEqual([status, body.field], [409, "model"]);
  open();
});

Deno.test("GET /v1/models lists the folders that hold a config.json", async () => {
  await using service = await testService();
  for (const folder of ["models/one", "models/deep/er", ".hidden", "plain"]) {
    await Deno.mkdir(join(service.root, folder), { recursive: true });
    if (folder !== "plain") await Deno.writeTextFile(join(service.root, folder, "config.json"), "{}");
  }
  const { status, body } = await service.get("/v1/models");
  assert.equal(status, 200);
  assert.equal(body.object, "list");
  assert.deepEqual(body.data.map(({ id }: { id: string }) => id), ["adapter", "model", "models/one"]);
  const { created, ...first } = body.data[1];
  assert.deepEqual(first, { id: "model", object: "model", owned_by: "simpo-worker", parent: null });
  assert.ok(Math.abs(created - Date.now() / 1000) < 60);
});
