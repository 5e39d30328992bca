import assert from "node:assert/strict";
import { testService } from "../helpers/service.ts";

const one = { model: "model", prompt: "a", candidates: ["b"] };

/** Hosts that a request is sent to, with what the worker is told to listen on and to allow. */
const hosts: [host: string, status: 200 | 421, options?: { host?: string; allowedHosts?: string[] }][] = [
  ["localhost:8080", 200],
  ["LOCALHOST.", 200],
  ["worker.localhost", 200],
  ["127.0.0.1:1", 200],
  ["127.9.9.9", 200],
  ["[::1]:8080", 200],
  ["evil.example", 421],
  ["evil.example:8080", 421],
  ["localhost.evil.example", 421],
  ["127.0.0.1.evil.example", 421],
  ["evil.example#localhost", 421],
  ["localhost@evil.example", 421],
  ["localhost, evil.example", 421],
  ["localhost\\evil.example", 421],
  ["%6cocalhost", 421],
  ["", 421],
  ["10.0.0.1", 421],
  ["[::ffff:10.0.0.1]", 421],
  ["[::ffff:127.0.0.1]", 200],
  // An address cannot be rebound; a name can, but for the one that the worker listens on.
  ["10.0.0.1:8080", 200, { host: "0.0.0.0" }],
  ["[fd00::1]", 200, { host: "::" }],
  ["evil.example", 421, { host: "0.0.0.0" }],
  ["gpu-1.lan:8080", 200, { host: "gpu-1.lan" }],
  ["gpu-2.lan", 421, { host: "gpu-1.lan" }],
  ["worker.example.com:8080", 200, { allowedHosts: ["worker.example.com"] }],
  ["localhost", 200, { allowedHosts: ["worker.example.com"] }],
  ["evil.example.com", 421, { allowedHosts: ["worker.example.com"] }],
  ["a.example.com", 200, { allowedHosts: ["*.example.com"] }],
  ["example.com", 421, { allowedHosts: ["*.example.com"] }],
  ["worker.example.com:443", 200, { allowedHosts: ["worker.example.com:443"] }],
  ["worker.example.com:444", 421, { allowedHosts: ["worker.example.com:443"] }],
];

for (const [host, status, options = {}] of hosts) {
  Deno.test(`a request with Host ${JSON.stringify(host)} is answered ${status} where ${JSON.stringify(options)}`, async () => {
    await using service = await testService(options);
    const answers = [
      await service.post("/score", one, { host }),
      await service.get("/v1/models", { host }),
      await service.get("/openapi.json", { host }),
    ];
    assert.deepEqual(answers.map(({ status }) => status), [status, status, status]);
    if (status === 421) {
      const { title, field, value } = answers[0]!.body;
      assert.deepEqual([title, field, value], ["Misdirected Request", "Host", host]);
      assert.equal((await service.get("/nowhere", { host })).status, 421);
    }
    // Probes send whatever name or address they know.
    for (const path of ["/livez", "/readyz", "/ping"]) {
      assert.equal((await service.get(path, { host, origin: "http://evil.example" })).status, 200);
    }
  });
}

const origins: [origin: string, status: number, allowedHosts?: string[]][] = [
  ["http://localhost:8080", 200],
  ["http://127.0.0.1:8080", 200],
  ["http://localhost:3000", 403],
  ["http://localhost", 403],
  ["http://evil.example", 403],
  ["http://localhost:8080.evil.example", 403],
  ["http://evil.example/localhost:8080", 403],
  ["file://", 403],
  ["null", 403],
  ["", 403],
  ["https://ui.example.com", 200, ["ui.example.com"]],
  ["https://ui.example.com:8443", 403, ["ui.example.com:443"]],
  ["http://localhost:3000", 200, ["localhost:3000"]],
  ["https://ui.example.com.evil.example", 403, ["ui.example.com"]],
];

for (const [origin, status, allowedHosts = []] of origins) {
  Deno.test(`a page of ${JSON.stringify(origin)} is answered ${status} where ${JSON.stringify(allowedHosts)} is allowed`, async () => {
    await using service = await testService({ allowedHosts });
    const headers = { host: "localhost:8080", origin };
    const answers = [await service.post("/score", one, headers), await service.get("/v1/models", headers)];
    assert.deepEqual(answers.map(({ status }) => status), [status, status]);
    if (status === 403) assert.equal(answers[0]!.body.field, "Origin");
  });
}

Deno.test("a page behind a proxy that ends TLS is of the worker's own origin", async () => {
  await using service = await testService({ allowedHosts: ["worker.example.com"] });
  const headers = { host: "worker.example.com", origin: "https://worker.example.com" };
  assert.equal((await service.post("/score", one, headers)).status, 200);
});

Deno.test("a job is cancelled, resumed and deleted by no form of another's page, and by a bodiless request", async () => {
  const never = Promise.withResolvers<void>();
  await using service = await testService({ beforeStep: () => never.promise });
  const { body: { id } } = await service.post("/train", { model: "model", dataset: { path: "rows.jsonl" } });
  const send = async (method: string, path: string, headers: Record<string, string>, body?: string) =>
    (await service.app.request(path, { method, headers, ...(body === undefined ? {} : { body }) })).status;
  const cancel = `/train/${id}/cancel`;
  await service.until(id, "running");
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"]) {
    assert.equal(await send("POST", cancel, { "content-type": type }, "a=b"), 415);
    assert.equal(await send("POST", cancel, { "content-type": type }), 415);
    assert.equal(await send("DELETE", `/train/${id}`, { "content-type": type }), 415);
    assert.equal(await send("POST", `/train/${id}/resume`, { "content-type": type }, ""), 415);
    const page = { "content-type": type, origin: "http://evil.example" };
    assert.equal(await send("POST", cancel, page, "a"), 403);
  }
  assert.equal(await send("POST", cancel, { origin: "http://evil.example" }), 403);
  assert.equal((await service.get(`/train/${id}`)).body.cancel_requested, false);
  assert.equal(await send("POST", cancel, {}), 202);
  assert.equal((await service.get(`/train/${id}`)).body.cancel_requested, true);
  never.resolve();
  await service.until(id, "cancelled");
  assert.equal(await send("DELETE", `/train/${id}`, {}), 204);
});

Deno.test("a request with the token is of no other page: Host, Origin and type are not asked for", async () => {
  await using service = await testService({ token: "s3cret" });
  const strange = { host: "evil.example", origin: "http://evil.example" };
  const token = { authorization: "Bearer s3cret" };
  assert.equal((await service.post("/score", one, { ...strange, ...token })).status, 200);
  assert.equal((await service.post("/score", one, { ...strange, authorization: "Bearer no" })).status, 421);
  const form = { "content-type": "text/plain", ...token };
  assert.equal((await service.post("/train/job-1/cancel", "a", form)).status, 404);
});

Deno.test("SIMPO_ALLOWED_HOSTS holds for requests with the token too", async () => {
  await using service = await testService({ token: "s3cret", allowedHosts: ["worker.example.com"] });
  const ask = async (host: string) =>
    (await service.post("/score", one, { host, authorization: "Bearer s3cret" })).status;
  assert.deepEqual([await ask("worker.example.com"), await ask("evil.example")], [200, 421]);
});

Deno.test("each of several tokens is taken, and their list is not", async () => {
  await using service = await testService({ token: ["first", "second"] });
  const ask = async (token: string) =>
    (await service.get("/v1/models", { authorization: `Bearer ${token}` })).status;
  assert.deepEqual(
    [await ask("first"), await ask("second"), await ask("first,second"), await ask("firs"), await ask("")],
    [200, 200, 401, 401, 401],
  );
});
