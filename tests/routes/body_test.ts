import { Hono } from "hono";
import assert from "node:assert/strict";
import { boundedBody } from "../../routes/_body.ts";
import { toProblem } from "../../routes/problem.ts";
import { testService } from "../helpers/service.ts";

const one = { model: "model", prompt: "a", candidates: ["b"] };
const json = { "content-type": "application/json" };

/** Bytes that are no UTF-8: one that stands alone, half a character, a surrogate, one too long, one past the last. */
const broken = [[0xff], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0xc0, 0xaf], [0xf5, 0x80, 0x80, 0x80]];

for (const bytes of broken) {
  Deno.test(`a body with the bytes ${bytes} is refused and the next request is served`, async () => {
    await using service = await testService();
    const [head, tail] = JSON.stringify({ ...one, prompt: "|" }).split("|").map((part) =>
      new TextEncoder().encode(part)
    );
    const body = new Uint8Array([...head!, ...bytes, ...tail!]);
    for (const path of ["/score", "/v1/completions", "/train"]) {
      const response = await service.app.request(path, { method: "POST", body, headers: json });
      assert.equal(response.status, 400);
      const problem = await response.json();
      assert.equal(problem.field, "body");
      assert.match(problem.accepted, /^JSON in UTF-8,/);
    }
    assert.equal((await service.post("/score", one)).status, 200);
  });
}

Deno.test("a body keeps U+FFFD and characters beyond the first plane, however it is cut in pieces", async () => {
  await using service = await testService();
  const text = JSON.stringify({ ...one, candidates: ["\ufffd𝒳é"] });
  const bytes = new TextEncoder().encode(text);
  const body = new ReadableStream({
    start(controller) {
      for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
      controller.close();
    },
  });
  const response = await service.app.request("/score", { method: "POST", body, headers: json });
  assert.equal(response.status, 200);
  await response.body?.cancel();
});

/** An app that reads a body of at most 100 bytes at a pace and answers its text. */
function reader(graceMs: number, bytesPerSecond: number): Hono {
  const app = new Hono();
  app.use(boundedBody(100, { graceMs, bytesPerSecond }));
  app.post("/", async (c) => c.text(await c.req.text()));
  app.onError((error, c) => {
    const { status, detail } = toProblem(error);
    return c.text(detail, status as 400);
  });
  return app;
}

/** Some bytes at once, then one each few milliseconds, until `count` have come. */
function drip(count: number, everyMs: number, atOnce = 1): ReadableStream<Uint8Array> {
  let left = count - atOnce;
  return new ReadableStream({
    start(controller) {
      controller.enqueue(new Uint8Array(atOnce).fill(97));
    },
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, everyMs));
      if (left-- > 0) controller.enqueue(Uint8Array.of(97));
      else controller.close();
    },
  }, { highWaterMark: 0 });
}

Deno.test("boundedBody() refuses a body that drips, and waits for one that keeps the pace", async () => {
  const send = async (app: Hono, body: ReadableStream<Uint8Array>) => {
    const response = await app.request("/", { method: "POST", body });
    return [response.status, await response.text()] as const;
  };
  const [status, detail] = await send(reader(50, 1000), drip(Infinity, 10, 1));
  assert.equal(status, 408);
  assert.match(detail, /^The body comes too slowly: \d+ bytes in 0\.\d s\.$/);
  // each byte gives the next ten seconds
  assert.deepEqual(await send(reader(20, 0.1), drip(20, 10)), [200, "a".repeat(20)]);
  const [silent] = await send(reader(20, 20), new ReadableStream({}));
  assert.equal(silent, 408);
  // One that is too long is waited for no longer either.
  const [long] = await send(reader(30, 100), drip(Infinity, 10, 101));
  assert.equal(long, 413);
});

Deno.test("boundedBody() reads a body that is too long to its end before it refuses it", async () => {
  let taken = 0;
  const body = new ReadableStream({
    pull(controller) {
      if (taken >= 1 << 20) return controller.close();
      taken += 1 << 16;
      controller.enqueue(new Uint8Array(1 << 16));
    },
  }, { highWaterMark: 0 });
  const response = await reader(1000, 1000).request("/", { method: "POST", body });
  assert.deepEqual([response.status, taken], [413, 1 << 20]);
});

Deno.test("boundedBody() says where a body has broken off", async () => {
  const body = new ReadableStream({ pull: (controller) => controller.error(new Error("reset")) });
  const response = await reader(1000, 1000).request("/", { method: "POST", body });
  assert.deepEqual([response.status, await response.text()], [400, "The body broke off before its end."]);
});
