/** A disk that is full for a while costs a job time and nothing else; the limits and permissions that serve has by itself. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { startFake, urlOf } from "../helpers/process.ts";
import { makeRoot } from "../helpers/service.ts";
import { smallDisk } from "../helpers/small_disk.ts";
import { endsAfterFullDisk } from "./_full_disk.ts";

const probe = await smallDisk(1 << 20);
await probe?.[Symbol.asyncDispose]();

Deno.test({
  name:
    "a job under which the disk is full waits for room and ends as let alone, bit for bit, a restart in between",
  ignore: probe === null,
  fn: async () => {
    const waits = await endsAfterFullDisk({ lora: { r: 4, dropout: 0.1 } }, [
      { after: 0, leave: 150_000 },
      { after: 2, leave: 0, end: "SIGKILL" },
    ]);
    assert.deepEqual(waits, [1, 1]);
  },
});

Deno.test("serve refuses a job with 507 where less is free than SIMPO_MIN_FREE, and runs none that waits", async () => {
  const root = await makeRoot();
  const job = { model: "model", dataset: { path: "rows.jsonl" } };
  const post = (url: string) =>
    fetch(`${url}/train`, {
      method: "POST",
      body: JSON.stringify(job),
      headers: { "content-type": "application/json" },
    });
  try {
    let id: string;
    {
      await using server = startFake(root, 1000, ["serve"], { SIMPO_MIN_FREE: "1" });
      id = (await (await post(await urlOf(server))).json()).id;
      server.child.kill("SIGTERM");
      assert.equal(await server.code, 0);
    }
    await using server = startFake(root, 1, ["serve"], { SIMPO_MIN_FREE: `${2 ** 20}` });
    const url = await urlOf(server);
    const refused = await post(url);
    assert.equal(refused.status, 507);
    const { detail, accepted } = await refused.json();
    assert.match(detail, /: \d+ MiB are free, and 1048576 are to stay free \(SIMPO_MIN_FREE\)\.$/);
    assert.equal(accepted, "more room on the disk of SIMPO_STATE");
    await server.line(/Jobs wait: /);
    assert.equal((await (await fetch(`${url}/train/${id}`)).json()).status, "queued");
    const ready = await fetch(`${url}/readyz`);
    await ready.body!.cancel();
    assert.equal(ready.status, 200); // it scores
    server.child.kill("SIGTERM");
    assert.equal(await server.code, 0);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

const prlimit = Deno.build.os === "linux" && existsSync("/usr/bin/prlimit") ? "/usr/bin/prlimit" : null;

Deno.test({
  name: "serve lives on where a file would grow past the system's limit, and takes the job when it may",
  ignore: prlimit === null,
  fn: async () => {
    const root = await makeRoot();
    try {
      await using server = startFake(root, 1, ["serve"]);
      const url = await urlOf(server);
      const limit = async (bytes: string) => {
        const args = ["--pid", `${server.child.pid}`, `--fsize=${bytes}`];
        assert.ok((await new Deno.Command(prlimit!, { args }).output()).success);
      };
      const rows = Array.from(
        { length: 200 },
        () => ({ prompt: "a", chosen: "b".repeat(10_000), rejected: "c" }),
      );
      const post = async () => {
        const answer = await fetch(`${url}/train`, {
          method: "POST",
          body: JSON.stringify({ model: "model", dataset: { rows } }),
          headers: { "content-type": "application/json" },
        });
        return { status: answer.status, body: await answer.json() };
      };
      await limit("1000000:unlimited");
      const refused = await post();
      assert.equal(refused.status, 503);
      assert.equal(refused.body.detail, "The jobs' files cannot be read or written: disk I/O error.");
      await limit("unlimited:unlimited");
      const { status, body: { id } } = await post();
      assert.equal(status, 202);
      const job = async () => (await (await fetch(`${url}/train/${id}`)).json()).status;
      while (await job() !== "succeeded") await new Promise((resolve) => setTimeout(resolve, 5));
      server.child.kill("SIGTERM");
      assert.equal(await server.code, 0);
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
});
