import assert from "node:assert/strict";
import fc from "fast-check";
import { readServerSentEvents, type ServerSentEvent } from "../../src/cli/_sse.ts";

function read(text: string, cuts: readonly number[] = []): Promise<ServerSentEvent[]> {
  const bytes = new TextEncoder().encode(text);
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  const chunks = ends.map((end, index) => bytes.slice(ends[index - 1] ?? 0, end));
  return Array.fromAsync(readServerSentEvents(ReadableStream.from(chunks)));
}

Deno.test("readServerSentEvents() reads id, event and data, and skips comments", async () => {
  assert.deepEqual(await read(": hello\nid: 1\nevent: status\ndata: {}\n\ndata:x\ndata: y\n\n"), [
    { id: "1", event: "status", data: "{}" },
    { id: "1", event: "message", data: "x\ny" },
  ]);
});

Deno.test("readServerSentEvents() drops an event that the end of the stream cuts off", async () => {
  assert.deepEqual(await read("data: 1\n\ndata: 2\n"), [{ id: "", event: "message", data: "1" }]);
});

Deno.test("readServerSentEvents() gives the same events however the bytes are cut", async () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const text = ["id: 7", "event: metrics", "data: größer", "data: → 2", "", "data: 3", "", ""].join(end) +
      end;
    const whole = await read(text);
    assert.equal(whole.length, 2);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat()), async (cuts) => assert.deepEqual(await read(text, cuts), whole)),
      { numRuns: 50 },
    );
  }
});
