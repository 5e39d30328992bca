import assert from "node:assert/strict";
import { readServerSentEvents } from "../../src/cli/_sse.ts";
import { startFake, urlOf } from "../helpers/process.ts";
import { makeRoot } from "../helpers/service.ts";

const job = { model: "model", dataset: { path: "rows.jsonl" } };

async function post(url: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(url, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "content-type": "application/json", ...headers },
  });
  return { status: response.status, body: await response.json() };
}

async function withRoot(test: (root: string) => Promise<void>): Promise<void> {
  const root = await makeRoot();
  try {
    await test(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** Follows a job's events, over a restart too. */
async function follow(url: string, id: string, from: number, until: string) {
  const response = await fetch(`${url}/train/${id}/events`, { headers: { "last-event-id": `${from}` } });
  const events = [];
  for await (const event of readServerSentEvents(response.body!)) {
    events.push(event);
    if (event.event === until) break;
  }
  return events;
}

for (const signal of ["SIGTERM", "SIGINT", "SIGKILL"] as const) {
  Deno.test(`serve() goes on with its jobs after ${signal}`, () =>
    withRoot(async (root) => {
      let seen: { id: string; event: string; data: string }[];
      let id: string;
      {
        await using server = startFake(root, 100, ["serve"]);
        const url = await urlOf(server);
        id = (await post(`${url}/train`, job)).body.id;
        seen = await follow(url, id, 0, "checkpoint");
        // A stream that is open must not hold the shutdown up.
        const open = await fetch(`${url}/train/${id}/events`);
        server.child.kill(signal);
        await open.text().catch(() => {});
        assert.equal(await server.code, signal === "SIGKILL" ? 137 : 0);
        assert.ok(!server.lines.some((line) => /did not end in time/.test(line)));
      }
      await using server = startFake(root, 1, ["serve"]);
      const url = await urlOf(server);
      const rest = await follow(url, id, Number(seen.at(-1)!.id), "done");
      const steps = [...seen, ...rest].filter(({ event }) => event === "metrics").map(({ data }) =>
        JSON.parse(data).step
      );
      assert.deepEqual(steps, [1, 2, 3, 4, 5, 5]);
      assert.deepEqual(JSON.parse(rest.at(-1)!.data), { status: "succeeded", step: 5 });
    }));
}

Deno.test("serve() ends with exit code 1 where the device's thread breaks, and goes on with its jobs at the next start", () =>
  withRoot(async (root) => {
    let id: string;
    {
      await using server = startFake(root, -100, ["serve"]);
      id = (await post(`${await urlOf(server)}/train`, job)).body.id;
      assert.equal(await server.code, 1);
      await server.line(/The GPU worker broke: test\./);
    }
    await using server = startFake(root, 1, ["serve"]);
    const events = await follow(await urlOf(server), id, 0, "done");
    assert.deepEqual(JSON.parse(events.at(-1)!.data), { status: "succeeded", step: 5 });
    assert.ok(events.some(({ event, data }) => event === "status" && JSON.parse(data).resumed_from === 2));
  }));

Deno.test("serve() survives bad requests and readers that go", () =>
  withRoot(async (root) => {
    await using server = startFake(root, 1, ["serve"], { SIMPO_TOKEN: "s3cret", SIMPO_MAX_BODY: "1000" });
    const url = await urlOf(server);
    const token = { authorization: "Bearer s3cret" };
    const score = { model: "model", prompt: "a", candidates: ["b"] };
    assert.equal((await post(`${url}/score`, score)).status, 401);
    assert.equal((await post(`${url}/score`, { ...score, prompt: "a".repeat(2000) }, token)).status, 413);
    // A body far over what the sockets hold: the answer must come while it is still sent.
    const large = await post(`${url}/score`, { ...score, prompt: "a".repeat(20_000_000) }, token).catch(() =>
      null
    );
    assert.ok(large === null || large.status === 413);
    const leaving = new AbortController();
    const items = Array(20).fill({ prompt: "a", candidates: ["b"] });
    const stream = await fetch(`${url}/score`, {
      method: "POST",
      body: JSON.stringify({ model: "model", items }),
      headers: { "content-type": "application/json", accept: "application/x-ndjson", ...token },
      signal: leaving.signal,
    });
    leaving.abort();
    await stream.body?.cancel().catch(() => {});
    assert.equal((await post(`${url}/score`, score, token)).status, 200);
    assert.equal((await fetch(`${url}/readyz`)).status, 200);
    // Each line of the log is JSON, a request's among them.
    const lines = server.lines.map((line) => JSON.parse(line));
    assert.ok(lines.some(({ path, status }) => path === "/score" && status === 413));
  }));

const refusals: [env: Record<string, string>, message: RegExp][] = [
  [{ HOST: "192.0.2.1", SIMPO_INSECURE: "1" }, /^HOST 192\.0\.2\.1 is no address of this machine/m],
  [
    { HOST: "nowhere.invalid", SIMPO_INSECURE: "1" },
    /^HOST nowhere\.invalid, PORT 0 cannot be listened on: /m,
  ],
  [{ HOST: "0.0.0.0" }, /^HOST 0\.0\.0\.0 can be reached .* set SIMPO_TOKEN .* or SIMPO_INSECURE=1/m],
  [{ HOST: "::" }, /^HOST :: can be reached .* set SIMPO_TOKEN .* or SIMPO_INSECURE=1/m],
  [{ HOST: "::ffff:0.0.0.0", SIMPO_INSECURE: "0" }, /^HOST ::ffff:0\.0\.0\.0 can be reached /m],
  [{ HOST: "gpu-1.lan", SIMPO_TOKEN: " , " }, /^HOST gpu-1\.lan can be reached /m],
  [{ SIMPO_TOKEN_FILE: "/nowhere/token" }, /^SIMPO_TOKEN_FILE "\/nowhere\/token" cannot be read/m],
  [{ SIMPO_TOKEN_FILE: "/dev/zero" }, /^SIMPO_TOKEN_FILE "\/dev\/zero" is no such file/m],
  [{ SIMPO_STATE: "/dev/null" }, /^SIMPO_STATE "\/dev\/null" cannot be used: /m],
  [{ SIMPO_ROOT: "/nowhere" }, /^SIMPO_ROOT must be a folder that is there, not "\/nowhere"\.$/m],
];

for (const [env, message] of refusals) {
  Deno.test(`serve() ends with exit code 2 for ${JSON.stringify(env)}`, () =>
    withRoot(async (root) => {
      await using server = startFake(root, 1, ["serve"], env);
      assert.equal(await server.code, 2);
      assert.match(server.lines.join("\n"), message);
    }));
}

Deno.test("serve() ends with exit code 2 for a job store that is none", () =>
  withRoot(async (root) => {
    await Deno.mkdir(`${root}/state`);
    await Deno.writeTextFile(`${root}/state/jobs.sqlite`, "no data base".repeat(500));
    await using server = startFake(root, 1, ["serve"]);
    assert.equal(await server.code, 2);
    assert.match(server.lines.join("\n"), /^SIMPO_STATE ".*state" cannot be used: file is not a database/m);
  }));

Deno.test("serve() ends with exit code 2 where no device answers before the server's modules are loaded", () =>
  withRoot(async (root) => {
    await using server = startFake(root, NaN, ["serve"]);
    assert.equal(await server.code, 2);
    assert.doesNotMatch(server.lines.join("\n"), /Uncaught/);
  }));

Deno.test("serve() ends with exit code 2 for a port or a state folder in use, and for an argument", () =>
  withRoot(async (root) => {
    await using server = startFake(root, 1, ["serve"]);
    const { port } = new URL(await urlOf(server));
    await using samePort = startFake(root, 1, ["serve"], { PORT: port, SIMPO_STATE: `${root}/other` });
    assert.equal(await samePort.code, 2);
    assert.match(samePort.lines.join("\n"), /^PORT \d+ is in use/m);
    await using sameState = startFake(root, 1, ["serve"]);
    assert.equal(await sameState.code, 2);
    assert.match(sameState.lines.join("\n"), /^SIMPO_STATE is in use by another worker/m);
    await using argument = startFake(root, 1, ["serve", "--port", "3"]);
    assert.equal(await argument.code, 2);
    assert.match(argument.lines.join("\n"), /--port is not a known option; known are --help/);
  }));

Deno.test("serve() listens for other machines with the tokens of SIMPO_TOKEN and SIMPO_TOKEN_FILE", () =>
  withRoot(async (root) => {
    const SIMPO_TOKEN_FILE = `${root}/tokens`;
    const env = { HOST: "0.0.0.0", SIMPO_TOKEN: "first", SIMPO_TOKEN_FILE };
    await Deno.writeTextFile(SIMPO_TOKEN_FILE, "\n second \r\nthird");
    await using server = startFake(root, 1, ["serve"], env);
    const url = (await urlOf(server)).replace("0.0.0.0", "127.0.0.1");
    const ask = async (token: string) => {
      const response = await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${token}` } });
      await response.body?.cancel();
      return response.status;
    };
    const statuses = await Promise.all(["first", "second", "third", "fourth"].map(ask));
    assert.deepEqual(statuses, [200, 200, 200, 401]);
    assert.doesNotMatch(server.lines.join("\n"), /second|third|no token is asked for/);
  }));

Deno.test("serve() listens for other machines without a token where SIMPO_INSECURE=1, and warns", () =>
  withRoot(async (root) => {
    await using server = startFake(root, 1, ["serve"], { HOST: "0.0.0.0", SIMPO_INSECURE: "1" });
    await urlOf(server);
    await server.line(/no token is asked for/);
  }));

Deno.test("serve() takes a cancel and a DELETE without a body or a type, and no form", () =>
  withRoot(async (root) => {
    await using server = startFake(root, 1000, ["serve"]);
    const url = await urlOf(server);
    const { body: { id } } = await post(`${url}/train`, job);
    const ask = async (method: string, path: string, init: RequestInit = {}) => {
      const response = await fetch(`${url}/train/${id}${path}`, { method, ...init });
      await response.body?.cancel();
      return response.status;
    };
    assert.equal(await ask("POST", "/cancel", { body: new URLSearchParams({ a: "b" }) }), 415);
    assert.equal(await ask("POST", "/cancel", { body: new TextEncoder().encode("a") }), 415);
    assert.equal(await ask("POST", "/cancel", { headers: { origin: "http://evil.example" } }), 403);
    assert.equal(await ask("POST", "/cancel"), 202);
    await follow(url, id, 0, "done");
    assert.equal(await ask("DELETE", ""), 204);
  }));
