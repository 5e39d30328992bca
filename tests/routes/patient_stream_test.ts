import assert from "node:assert/strict";
import { patientStream } from "../../routes/_patient_stream.ts";
import { serveHttp } from "../../src/cli/_http_server.ts";

const never = () => assert.fail("dropped");

/** Pieces without end, how many were made, and when nobody wants more. */
function endless(bytes: number) {
  const { promise: cancelled, resolve } = Promise.withResolvers<void>();
  const source = { stream: new ReadableStream<Uint8Array>(), made: 0, cancelled };
  source.stream = new ReadableStream({
    pull(controller) {
      source.made++;
      controller.enqueue(new Uint8Array(bytes));
    },
    cancel: () => resolve(),
  }, { highWaterMark: 0 });
  return source;
}

Deno.test("patientStream() ends the source of a reader that has stopped, over a socket too, and holds little for it", async () => {
  const source = endless(1 << 16);
  const server = serveHttp(
    { port: 0, hostname: "127.0.0.1" },
    (_, { drop }) => new Response(patientStream(source.stream, drop, 200)),
  );
  using client = await Deno.connect({ port: server.addr.port, hostname: "127.0.0.1" });
  await client.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  await source.cancelled;
  assert.ok(source.made < 1000, `${source.made} pieces of 64 KiB`);
  await server.shutdown();
});

Deno.test("patientStream() waits for a slow source and for a reader that goes on in time", async () => {
  let left = 3;
  const slow = new ReadableStream<string>({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      if (left-- > 0) controller.enqueue("a");
      else controller.close();
    },
  }, { highWaterMark: 0 });
  assert.equal((await Array.fromAsync(patientStream(slow, never, 50))).join(""), "aaa");
  const reader = patientStream(endless(1).stream, never, 100).getReader();
  for (let i = 0; i < 4; i++) {
    assert.equal((await reader.read()).done, false);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  await reader.cancel();
});

Deno.test("patientStream() hands on the source's error and the reader's leaving", async () => {
  const failing = new ReadableStream({ pull: (controller) => controller.error(new Error("broken")) });
  await assert.rejects(Array.fromAsync(patientStream(failing, never)), /broken/);
  const source = endless(1);
  await patientStream(source.stream, never).cancel();
  await source.cancelled;
});
