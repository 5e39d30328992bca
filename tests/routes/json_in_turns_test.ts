import assert from "node:assert/strict";
import { Hono } from "hono";
import { answerJson, jsonInTurns } from "../../routes/_json_in_turns.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { testService } from "../helpers/service.ts";

Deno.test("jsonInTurns() writes what JSON.stringify does", async () => {
  const long = Array.from({ length: 30_000 }, (_, i) => ({ i, text: `ä\ud800"${i}`, none: undefined }));
  for (
    const value of [null, "a", 1, [], {}, { a: undefined, b: [1] }, long, {
      before: "x".repeat(2 ** 24),
      long,
      lists: [long, undefined, [], { 'a"b': long }],
      after: undefined,
    }]
  ) {
    const text = new TextDecoder().decode(await jsonInTurns(value, "\n"));
    assert.equal(text, new TextDecoder().decode(new TextEncoder().encode(`${JSON.stringify(value)}\n`)));
  }
});

/** Counts how often others get a turn while `work` is done. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  await work();
  clearInterval(timer);
  return turns;
}

Deno.test("jsonInTurns() lets others in, between the parts of one list too", async () => {
  const value = { results: [{ tokens: Array.from({ length: 10 ** 6 }, (_, i) => `t${i}`) }] };
  assert.ok(await turnsDuring(() => jsonInTurns(value)) > 3);
});

Deno.test("POST /v1/completions lets others in while it makes a long answer", async () => {
  await using service = await testService();
  const prompt = Array.from({ length: 500 }, () => "abcd".repeat(200));
  const body = { model: "model", prompt, echo: true, logprobs: 1, max_tokens: 1 };
  const told = await turnsDuring(async () => {
    const answer = await service.app.request("/v1/completions", {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json" },
    });
    const { choices } = await answer.json();
    assert.equal(choices.length, 500);
    assert.equal(choices[499].logprobs.tokens.length, 801);
  });
  assert.ok(told > 10, `${told} turns`);
});

Deno.test("GET /v1/models lets others in after each hundred jobs", async () => {
  await using service = await testService();
  const { store } = service.service;
  store.create("job-1", parseJobSpec({ model: "model", dataset: { path: "rows.jsonl" } }));
  store.finish("job-1", "succeeded");
  const job = store.get("job-1")!;
  let pages = 20;
  store.list = () => {
    const end = performance.now() + 15;
    while (performance.now() < end);
    return pages-- > 0 ? [job] : [];
  };
  const turns = await turnsDuring(async () => {
    assert.equal((await service.get("/v1/models")).body.data.length, 20 + 2);
  });
  assert.ok(turns > 8, `${turns} turns`);
});

Deno.test("answerJson() breaks off where its reader stops, and gives HEAD the same length", async () => {
  const value = Array(100_000).fill("abc");
  const app = new Hono().get("/", (c) => answerJson(c, value, 20));
  const { promise: dropped, resolve: drop } = Promise.withResolvers<void>();
  const answer = await app.request("/", {}, { drop });
  const length = answer.headers.get("content-length");
  assert.equal(length, "600001");
  const head = await app.request("/", { method: "HEAD" });
  assert.equal(head.headers.get("content-length"), length);
  assert.deepEqual(await (await app.request("/")).json(), value);
  const reader = answer.body!.getReader();
  assert.equal((await reader.read()).value!.length, 2 ** 16);
  await dropped;
  await assert.rejects(reader.read(), /The reader took nothing/);
});
