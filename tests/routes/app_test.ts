import assert from "node:assert/strict";
import config from "../../deno.json" with { type: "json" };
import { trainRoutes } from "../../routes/train.ts";
import { FakeEngine } from "../helpers/fake_engine.ts";
import { testService } from "../helpers/service.ts";

const one = { model: "model", prompt: "a", candidates: ["b"] };

Deno.test("probes tell a worker that starts from one that is ready and one that stops", async () => {
  const { promise, resolve } = Promise.withResolvers<FakeEngine>();
  const statuses = async (app: { request(path: string): Response | Promise<Response> }) =>
    await Promise.all(["/livez", "/readyz", "/ping"].map(async (path) => (await app.request(path)).status));
  await using service = await testService({ engine: promise, token: "t" });
  // The probes ask for no token.
  assert.deepEqual(await statuses(service.app), [200, 503, 204]);
  resolve(new FakeEngine());
  await promise;
  assert.deepEqual(await statuses(service.app), [200, 200, 200]);
  await service.stop();
  assert.deepEqual(await statuses(service.app), [200, 503, 204]);
  const { status, body } = await service.post("/score", one, { authorization: "Bearer t" });
  assert.deepEqual([status, body.title], [503, "Service Unavailable"]);
});

for (
  const authorization of [undefined, "Bearer wrong!", "Bearer s3cret!", "Basic s3cret", "s3cret", "Bearer "]
) {
  Deno.test(`a request with Authorization ${authorization} is refused and the next is served`, async () => {
    await using service = await testService({ token: "s3cret" });
    const { status, headers, body } = await service.post(
      "/score",
      one,
      authorization ? { authorization } : {},
    );
    assert.equal(status, 401);
    assert.equal(headers.get("www-authenticate"), "Bearer");
    assert.deepEqual([body.field, body.detail], [
      "Authorization",
      "Authorization must carry the worker's bearer token.",
    ]);
    assert.equal((await service.get("/nowhere")).status, 401);
    assert.equal((await service.post("/score", one, { authorization: "Bearer s3cret" })).status, 200);
  });
}

Deno.test("a body over the limit is refused, declared or streamed, and the next request is served", async () => {
  await using service = await testService({ maxBodyBytes: 200 });
  const body = JSON.stringify({ ...one, prompt: "a".repeat(200) });
  const declared = await service.post("/score", body, { "content-length": `${body.length}` });
  const streamed = await service.app.request("/score", {
    method: "POST",
    body: new Blob([body]).stream(),
    headers: { "content-type": "application/json" },
  });
  for (const { status, body } of [declared, { status: streamed.status, body: await streamed.json() }]) {
    assert.equal(status, 413);
    assert.deepEqual([body.field, body.detail], ["body", "The body is longer than 200 bytes."]);
  }
  assert.equal((await service.post("/score", one)).status, 200);
});

for (const type of ["text/plain", "application/x-www-form-urlencoded", undefined]) {
  Deno.test(`a body of type ${type} is refused and the next request is served`, async () => {
    await using service = await testService();
    const response = await service.app.request("/score", {
      method: "POST",
      body: new TextEncoder().encode(JSON.stringify(one)),
      headers: type === undefined ? {} : { "content-type": type },
    });
    const body = await response.json();
    assert.deepEqual([response.status, body.field, body.accepted], [415, "Content-Type", "application/json"]);
    assert.equal((await service.post("/score", one)).status, 200);
  });
}

Deno.test("an unknown path and a wrong method are told apart", async () => {
  await using service = await testService();
  const unknown = await service.get("/scores");
  assert.deepEqual([unknown.status, unknown.body.detail], [404, "There is no GET /scores."]);
  const wrong = await service.get("/score");
  assert.deepEqual([wrong.status, wrong.body.detail, wrong.headers.get("allow")], [
    405,
    "/score takes POST, not GET.",
    "POST",
  ]);
  const missing = await service.get("/train/job-1");
  assert.deepEqual([missing.status, missing.body.field], [404, "id"]);
});

Deno.test("every answer carries a request id, an error in its body too", async () => {
  await using service = await testService();
  const given = await service.get("/nowhere", { "x-request-id": "mine-1" });
  assert.deepEqual([given.headers.get("x-request-id"), given.body.request_id], ["mine-1", "mine-1"]);
  const made = await service.get("/livez");
  assert.match(made.headers.get("x-request-id")!, /^[\w-]{36}$/);
});

Deno.test("GET /openapi.json describes every route, and every route is described", async () => {
  await using service = await testService({ token: "t" });
  const { status, body } = await service.get("/openapi.json");
  assert.equal(status, 200);
  assert.equal(body.openapi, "3.1.0");
  assert.deepEqual([body.info.title, body.info.version], ["simpo-worker", config.version]);
  const described = Object.entries(body.paths).flatMap(([path, methods]) =>
    Object.keys(methods as object).map((method) => `${method.toUpperCase()} ${path}`)
  );
  const served = [...service.app.routes, ...trainRoutes(service.service).routes].filter(({ method }) =>
    method !== "ALL"
  )
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, "{$1}")}`);
  assert.deepEqual(described.sort(), [...new Set(served)].sort());
  assert.deepEqual(body.security, [{ bearer: [] }]);
  assert.deepEqual(body.paths["/livez"].get.security, []);
  const { JobRequest, ScoreRequest, Problem } = body.components.schemas;
  assert.equal(JobRequest.properties.batch_size.default, 128);
  assert.equal(JobRequest.additionalProperties, false);
  assert.deepEqual(JobRequest.required, ["model", "dataset"]);
  assert.equal(ScoreRequest.oneOf.length, 3);
  assert.ok(Problem.properties.accepted);
});
