/** Clients that send slowly, or nothing, or do not read, to a real service. */
import assert from "node:assert/strict";
import { makeRealRoot, Worker } from "../../tests/service/_worker.ts";
import type { Soak } from "./_soak.ts";

const CLIENTS = 300;
/** Longest that any of them may be held: the bounds of docs/access.md, and as much again for a busy machine. */
const LONGEST_MS = 40_000;
const DRIP_MS = 500;
const SCORE = { model: "models/tiny", prompt: "the", candidates: [" sand", " sea"] };

const HEAD = "POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

/** What each client sends at first and then again and again, and how the answer to it begins where there is one. */
const KINDS: Readonly<Record<string, readonly [first: string, piece: string, answer?: RegExp]>> = {
  silent: ["", ""],
  "heads that drip": [HEAD, "X: y\r\n"],
  "bodies that drip": [`${HEAD}Content-Length: 1000\r\n\r\n`, " ", /^HTTP\/1\.1 408 /],
  "chunks that drip": [`${HEAD}Transfer-Encoding: chunked\r\n\r\n`, "1\r\n \r\n", /^HTTP\/1\.1 408 /],
};

/** 300 clients of each kind at one time, beside which the service goes on. */
export const connections: Soak = {
  proves: `${CLIENTS} clients that drip or are silent are let go within ${
    LONGEST_MS / 1000
  } s, and nobody waits for them.`,
  version: 1,
  cells: Object.keys(KINDS),
  minutesPerCell: 1,
  async run(cell) {
    const [first, piece, answer] = KINDS[cell]!;
    await using root = await makeRealRoot();
    await using worker = await Worker.start(root.path);
    assert.equal((await worker.post("/score", SCORE)).status, 200);
    const { hostname, port } = new URL(worker.url);
    const clients = Promise.all(
      Array.from({ length: CLIENTS }, () => drip(hostname, Number(port), first, piece)),
    );
    let under = true;
    const ended = clients.finally(() => under = false);
    const probes: number[] = [];
    while (under) {
      probes.push(await timed(() => worker.get("/livez")));
      assert.equal((await worker.post("/score", SCORE)).status, 200);
      await pause(100);
    }
    const all = await ended;
    const longest = Math.max(...all.map(({ ms }) => ms));
    assert.ok(longest <= LONGEST_MS, `a client was held for ${longest} ms`);
    if (answer) { for (const { text } of all) assert.match(text, answer); }
    probes.sort((a, b) => a - b);
    const p99 = probes[Math.ceil(0.99 * probes.length) - 1]!;
    assert.ok(p99 < 500, `/livez took ${p99} ms`);
    return { clients: all.length, longest_ms: Math.round(longest), livez_p99_ms: Math.round(p99) };
  },
};

/** Sends until the connection has ended. */
async function drip(hostname: string, port: number, first: string, piece: string) {
  const start = performance.now();
  using connection = await Deno.connect({ hostname, port });
  const encoder = new TextEncoder();
  let open = true;
  let text = "";
  const read = (async () => {
    const buffer = new Uint8Array(4096);
    for (;;) {
      const length = await connection.read(buffer).catch(() => null);
      if (length === null) break;
      text += new TextDecoder().decode(buffer.subarray(0, length));
    }
    open = false;
  })();
  await connection.write(encoder.encode(first));
  while (open && performance.now() - start < 2 * LONGEST_MS) {
    await connection.write(encoder.encode(piece)).catch(() => {});
    await Promise.race([read, pause(DRIP_MS)]);
  }
  return { ms: performance.now() - start, text };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
