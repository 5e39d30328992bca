import assert from "node:assert/strict";
import { gate, testService } from "../helpers/service.ts";

async function until(reached: () => boolean): Promise<void> {
  while (!reached()) await new Promise((resolve) => setTimeout(resolve, 1));
}

const SCORE = { model: "model", prompt: "the", candidates: [" hand", " out"] };
const COMPLETION = { model: "model", prompt: "the", max_tokens: 0, echo: true, logprobs: 1 };
const JOB = { model: "model", dataset: { rows: [{ prompt: "a", chosen: "b", rejected: "c" }] } };

Deno.test("a request beyond SIMPO_QUEUE is answered with 429 and Retry-After, on every route that waits", async () => {
  const { opened, open } = gate();
  await using service = await testService({ queue: 2, beforeItem: () => opened });
  const waiting = [service.post("/score", SCORE), service.post("/v1/completions", COMPLETION)];
  for (const [path, body] of [["/score", SCORE], ["/v1/completions", COMPLETION], ["/train", JOB]] as const) {
    const refused = await service.post(path, body);
    assert.deepEqual([refused.status, refused.body.title], [429, "Too Many Requests"]);
    assert.match(refused.body.detail, /^2 requests are waiting already: send this one again in \d+ s\.$/);
    assert.match(refused.body.accepted, /^2 requests at one time \(SIMPO_QUEUE\)/);
    assert.match(refused.headers.get("retry-after")!, /^[1-9]\d*$/);
  }
  assert.equal((await service.get("/livez")).status, 200);
  assert.equal((await service.get("/train")).status, 200);
  open();
  assert.deepEqual((await Promise.all(waiting)).map(({ status }) => status), [200, 200]);
  assert.equal((await service.post("/score", SCORE)).status, 200);
});

Deno.test("places come back after every end: a refusal, an error, lines that are read, lines that are left", async () => {
  await using service = await testService({ queue: 1 });
  const lines = () =>
    service.app.request("/score", {
      method: "POST",
      body: JSON.stringify({ model: "model", items: [SCORE, SCORE].map(({ model: _, ...item }) => item) }),
      headers: { "content-type": "application/json", accept: "application/x-ndjson" },
    });
  const first = await lines();
  assert.equal(
    (await service.post("/score", SCORE)).status,
    429,
    "lines that are not read yet hold their place",
  );
  assert.equal((await first.text()).trim().split("\n").length, 2);
  await (await lines()).body!.cancel();
  assert.equal((await service.post("/score", "{")).status, 400);
  assert.equal((await service.post("/score", { ...SCORE, model: "none" })).status, 404);
  assert.equal(
    (await service.post("/score", { ...SCORE, beta: -1 }, { accept: "application/x-ndjson" })).status,
    422,
  );
  service.engine.handlers.score = () => Promise.reject(new Error("test"));
  assert.equal((await service.post("/score", SCORE, { accept: "application/x-ndjson" })).status, 500);
  assert.equal((await service.post("/v1/completions", COMPLETION)).status, 200);
});

Deno.test("bodies that wait are bounded by their bytes, and one of the largest is always taken", async () => {
  const { opened, open } = gate();
  await using service = await testService({ maxBodyBytes: 1000, beforeItem: () => opened });
  const large = { ...SCORE, prompt: "the ".repeat(200) };
  const { length } = JSON.stringify(large);
  const fit = Math.floor(8000 / length);
  assert.ok(fit > 8);
  const waiting = Array.from({ length: fit }, () => service.post("/score", large));
  await until(() => service.engine.scored.length === fit);
  const refused = await service.post("/score", large);
  assert.equal(refused.status, 429);
  assert.match(refused.body.detail, /^Requests of \d+ bytes are waiting already/);
  open();
  const statuses = (await Promise.all(waiting)).map(({ status }) => status);
  assert.deepEqual(statuses, Array(fit).fill(200));
});

Deno.test("bodies that are on their way take no place from others, whatever length they announce", async () => {
  await using service = await testService({ queue: 2 });
  const gone = new AbortController();
  const slow = Array.from({ length: 20 }, (_, i) =>
    service.app.request("/score", {
      method: "POST",
      body: new ReadableStream({
        start: (controller) => {
          controller.enqueue(new Uint8Array([0x7b]));
          gone.signal.addEventListener("abort", () => controller.error(new Error("gone")));
        },
      }),
      headers: {
        "content-type": "application/json",
        ...i % 2 === 0 && { "content-length": `${service.service.config.maxBodyBytes}` },
      },
    }));
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal((await service.post("/score", SCORE)).status, 200);
  gone.abort();
  assert.deepEqual((await Promise.all(slow)).map(({ status }) => status), Array(20).fill(400));
});

Deno.test("a body on a route that needs none, or a word, is short", async () => {
  await using service = await testService();
  for (const path of ["/train/job-1/cancel", "/train/job-1/resume", "/nowhere"]) {
    const body = " ".repeat(2 ** 16 - 2) + "{}";
    assert.notEqual((await service.post(path, body)).status, 413);
    const { status, body: { accepted } } = await service.post(path, ` ${body}`);
    assert.deepEqual([status, accepted], [413, "at most 65536 bytes"]);
  }
});
