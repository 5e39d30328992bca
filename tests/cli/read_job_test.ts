import assert from "node:assert/strict";
import { readJob } from "../../src/cli/_job_file.ts";

const job = '{"model":"m","dataset":{"path":"p.jsonl"}}';

for (
  const [name, bytes, refused] of [
    ["a byte order mark", `\ufeff${job}`, null],
    ["text that is not UTF-8", new Uint8Array([0x22, 0xff, 0x22]), /" cannot be read: it is not UTF-8\.$/],
    ["more than a request may hold", `{"model":${"[".repeat(1e6)}`, /" is nested more than 128 deep\.$/],
    ["half a JSON text", "{", /" is not JSON: /],
  ] as const
) {
  Deno.test(`readJob() ${refused ? "refuses" : "takes"} ${name}`, async () => {
    const path = await Deno.makeTempFile();
    try {
      await Deno.writeFile(path, typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
      if (refused === null) assert.equal((await readJob(path)).request.model, "m");
      else await assert.rejects(readJob(path), { message: refused });
    } finally {
      await Deno.remove(path);
    }
  });
}
