import assert from "node:assert/strict";
import { unpackTar } from "modern-tar";
import { join } from "node:path";
import { createApp } from "../../routes/app.ts";
import type { ExportMerged } from "../../routes/service_context.ts";
import { readServerSentEvents } from "../../src/cli/_sse.ts";
import { gate, type TestService, testService } from "../helpers/service.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const minimal = { model: "model", dataset: { path: "rows.jsonl" } };
const pair = { prompt: "a", chosen: "b", rejected: "c" };

async function finished(service: TestService, job: Record<string, unknown> = minimal): Promise<string> {
  const { body } = await service.post("/train", job);
  await service.until(body.id, "succeeded");
  return body.id;
}

async function eventsOf(service: TestService, id: string, headers: Record<string, string> = {}) {
  const response = await service.app.request(`/train/${id}/events`, { headers });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  return readServerSentEvents(response.body!);
}

Deno.test("POST /train answers 202 with the job, its URL and its settings", async () => {
  await using service = await testService();
  const { status, headers, body } = await service.post("/train", {
    ...minimal,
    preset: "gemma2-it",
    max_steps: 9,
  });
  assert.equal(status, 202);
  assert.equal(headers.get("location"), `/train/${body.id}`);
  assert.deepEqual(body.links, {
    self: `/train/${body.id}`,
    events: `/train/${body.id}/events`,
    cancel: `/train/${body.id}/cancel`,
    resume: `/train/${body.id}/resume`,
    adapter: `/train/${body.id}/adapter`,
  });
  assert.deepEqual(
    [body.status, body.model, body.dataset, body.preset, body.error, body.metrics],
    ["queued", "model", { path: "rows.jsonl" }, "gemma2-it", null, null],
  );
  assert.deepEqual([body.settings.max_steps, body.settings.method.beta], [9, 10]);
  assert.deepEqual(body.progress, { step: 0, total_steps: null, fraction: 0, tokens_per_second: null });
});

Deno.test("POST /train goes on from an adapter's folder or a job's, and takes its form", async () => {
  await using service = await testService();
  const { root } = service;
  const fixture = new URL("../fixtures/peft_adapter/", import.meta.url).pathname;
  const config = JSON.parse(await Deno.readTextFile(join(fixture, "config.json")));
  await writeTinyModel(join(root, "model"), { config });
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    await Deno.copyFile(join(fixture, name), join(root, "adapter", name));
  }
  const lora = { init_adapter: "adapter" };
  const { status, body } = await service.post("/train", { ...minimal, lora });
  assert.equal(status, 202);
  assert.deepEqual(body.settings.lora, {
    r: 2,
    alpha: 4,
    dropout: 0.05,
    target_modules: ["q_proj", "v_proj", "down_proj"],
    use_rslora: false,
    modules_to_save: [],
    ensure_weight_tying: false,
    init_adapter: "adapter",
  });
  await service.until(body.id, "succeeded");
  assert.equal(service.engine.trained[0]!.init_adapter, join(root, "adapter"));

  const result = join(root, "state", "jobs", body.id, "result");
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    await Deno.copyFile(join(fixture, name), join(result, name));
  }
  await finished(service, { ...minimal, lora: { init_adapter: body.id, r: 2 } });
  assert.equal(service.engine.trained[1]!.init_adapter, result);
  assert.equal(service.engine.trained[1]!.settings.chat_template, null);
  await finished(service);
  assert.equal(service.engine.trained[2]!.init_adapter, null);
  // The template that an adapter was trained with goes on with it, unless the request has one.
  await Deno.writeTextFile(join(result, "chat_template.jinja"), "{{ messages }}");
  await finished(service, { ...minimal, lora: { init_adapter: body.id } });
  await finished(service, { ...minimal, lora: { init_adapter: body.id }, chat_template: "{{ own }}" });
  const templates = service.engine.trained.slice(3).map(({ settings }) => settings.chat_template);
  assert.deepEqual(templates, ["{{ messages }}", "{{ own }}"]);

  const refused = await service.post("/train", { ...minimal, lora: { ...lora, alpha: 5 } });
  assert.deepEqual([refused.status, refused.body.field], [422, "lora.alpha"]);
  const outside = await service.post("/train", { ...minimal, lora: { init_adapter: "../adapter" } });
  assert.deepEqual([outside.status, outside.body.field], [422, "lora.init_adapter"]);
});

Deno.test("GET /train/{id} shows a job's end", async () => {
  await using service = await testService();
  const id = await finished(service, { ...minimal, dataset: { rows: [pair, pair] } });
  const { status, body } = await service.get(`/train/${id}`);
  assert.equal(status, 200);
  assert.deepEqual(
    [body.status, body.seconds_remaining, body.progress.fraction, body.progress.step],
    ["succeeded", 0, 1, 3],
  );
  assert.deepEqual(body.dataset, { rows: 2 });
  assert.deepEqual(body.metrics, { loss: 1 / 3, "rewards/accuracies": 1, epoch: 1, eval_loss: 0.5, step: 3 });
  assert.deepEqual(body.rows_left_out, {
    count: 1,
    reasons: [{ split: "train", reason: "empty response", count: 1 }],
    first: [{ split: "train", row: 7, reason: "empty response" }],
  });
  assert.ok(body.created_at <= body.started_at && body.started_at <= body.finished_at);
});

Deno.test("POST /train gives a repeated request with an Idempotency-Key the same job", async () => {
  await using service = await testService();
  const key = { "idempotency-key": "abc" };
  const first = await service.post("/train", minimal, key);
  const second = await service.post("/train", { dataset: minimal.dataset, model: "model" }, key);
  assert.deepEqual([second.status, second.body.id], [202, first.body.id]);
  const other = await service.post("/train", { ...minimal, seed: 1 }, key);
  assert.equal(other.status, 422);
  assert.match(other.body.detail, /Idempotency-Key abc came with another request before/);
  assert.notEqual((await service.post("/train", minimal)).body.id, first.body.id);
  assert.equal((await service.get("/train")).body.jobs.length, 2);
});

Deno.test("POST /train refuses malformed rows that come with the request at once, but for one in ten", async () => {
  await using service = await testService();
  const post = (rows: unknown[]) => service.post("/train", { ...minimal, dataset: { rows } });
  const { status, body } = await post([pair, { a: 1 }, pair, null]);
  assert.deepEqual([status, body.field], [422, "dataset.rows[1]"]);
  assert.match(
    body.detail,
    /In all 2 of 4 rows cannot be used, max_left_out 0\.1 allows 1: row 4: must be an object/,
  );
  assert.equal((await service.get("/train")).body.jobs.length, 0);
  assert.equal((await post([pair, { a: 1 }])).status, 202);
});

Deno.test("GET /train gives pages, newest first", async () => {
  await using service = await testService();
  const ids: string[] = [];
  for (let n = 0; n < 5; n++) ids.unshift((await service.post("/train", minimal)).body.id);
  const seen: string[] = [];
  let next: string | null = "/train?limit=2";
  for (let pages = 0; next !== null; pages++) {
    assert.ok(pages < 3);
    const { body }: { body: { jobs: { id: string }[]; next: string | null } } = await service.get(next);
    seen.push(...body.jobs.map(({ id }) => id));
    next = body.next;
  }
  assert.deepEqual(seen, ids);
});

Deno.test("GET /train/{id}/events gives a running job's events as they come and ends with it", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: (_, n) => n === 2 ? step.opened : undefined });
  const { body } = await service.post("/train", minimal);
  const seen: { id: string; event: string; data: string }[] = [];
  for await (const event of await eventsOf(service, body.id, { "last-event-id": "0" })) {
    seen.push(event);
    if (event.event === "checkpoint") step.open();
  }
  assert.deepEqual(seen.map(({ event }) => event), [
    "status",
    "status",
    "warning",
    ...["metrics", "checkpoint", "metrics", "checkpoint", "metrics", "checkpoint"],
    "metrics",
    "done",
  ]);
  assert.deepEqual(seen.map(({ id }) => Number(id)), seen.map((_, i) => i + 1));
  assert.deepEqual(JSON.parse(seen[3]!.data), { step: 1, loss: 1, "rewards/accuracies": 1, epoch: 1 / 3 });
  assert.deepEqual(JSON.parse(seen.at(-1)!.data), { status: "succeeded", step: 3 });
});

Deno.test("GET /train/{id}/events goes on after Last-Event-ID and answers 204 past the end", async () => {
  await using service = await testService();
  const id = await finished(service);
  const all = await Array.fromAsync(await eventsOf(service, id));
  const rest = await Array.fromAsync(await eventsOf(service, id, { "last-event-id": "4" }));
  assert.deepEqual(rest, all.slice(4));
  const past = await service.get(`/train/${id}/events`, { "last-event-id": all.at(-1)!.id });
  assert.equal(past.status, 204);
  const odd = await service.get(`/train/${id}/events`, { "last-event-id": "first" });
  assert.deepEqual([odd.status, odd.body.field], [422, "last-event-id"]);
  assert.equal(odd.body.detail, 'last-event-id must be the id of an event, a whole number, not "first".');
});

Deno.test("GET /train/{id}/events lets go of a reader that has gone, and ends when the worker stops", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: () => step.opened });
  const { body } = await service.post("/train", minimal);
  while (service.service.store.events(body.id, 0).length < 3) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const gone = await service.app.request(`/train/${body.id}/events`);
  const reader = gone.body!.getReader();
  await reader.read();
  await reader.cancel();
  const staying = Array.fromAsync(await eventsOf(service, body.id));
  const stopped = service.stop();
  assert.deepEqual((await staying).at(-1)?.event, "warning");
  step.open();
  await stopped;
});

Deno.test("POST /train/{id}/cancel ends a job", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: () => step.opened });
  const running = (await service.post("/train", minimal)).body.id;
  const waiting = (await service.post("/train", minimal)).body.id;
  const { status, body } = await service.post(`/train/${waiting}/cancel`, "");
  assert.deepEqual([status, body.status], [202, "cancelled"]);
  while (service.engine.trained.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal((await service.post(`/train/${running}/cancel`, "")).body.cancel_requested, true);
  step.open();
  await service.until(running, "cancelled");
});

Deno.test("POST /train/{id}/cancel answers 409 for a job that has ended otherwise", async () => {
  await using service = await testService();
  const id = await finished(service);
  const { status, body } = await service.post(`/train/${id}/cancel`, "");
  assert.deepEqual([status, body.detail], [409, `Job ${id} has succeeded and cannot be cancelled.`]);
});

Deno.test("GET /train/{id}/adapter gives the PEFT files, or the merged weights, as one archive", async () => {
  await using service = await testService();
  const id = await finished(service);
  const fetched = async (query: string) => {
    const response = await service.app.request(`/train/${id}/adapter${query}`);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "application/x-tar");
    const bytes = new Uint8Array(await response.arrayBuffer());
    assert.equal(response.headers.get("content-length"), `${bytes.length}`);
    return (await unpackTar(bytes)).map(({ header }) => header.name);
  };
  const adapter = ["README.md", "adapter_config.json", "adapter_model.safetensors"];
  const merged = ["README.md", "model.safetensors"];
  assert.deepEqual(await fetched(""), adapter);
  assert.deepEqual(await fetched("?format=adapter"), adapter);
  assert.deepEqual(await fetched("?format=merged"), merged);
  assert.deepEqual(await Promise.all([fetched("?format=full"), fetched("?format=merged")]), [
    merged,
    merged,
  ]);
  const odd = await service.get(`/train/${id}/adapter?format=zip`);
  assert.deepEqual([odd.status, odd.body.field, odd.body.accepted], [
    422,
    "format",
    '"adapter" | "merged" | "full"',
  ]);
});

Deno.test("GET /train/{id}/events and GET /train/{id} tell how far the weights are read", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: () => step.opened });
  const { store } = service.service;
  const { id } = (await service.post("/train", minimal)).body;
  await service.until(id, "running");
  const shown = async () => (await service.get(`/train/${id}`)).body.loading;
  const events = await eventsOf(service, id);
  assert.equal((await events.next()).value!.event, "status");
  while ((await events.next()).value!.event !== "warning");
  store.recordLoading(id, { bytes: 3, total_bytes: 4 });
  assert.deepEqual(await shown(), { bytes: 3, total_bytes: 4 });
  const { value } = await events.next();
  assert.deepEqual([value!.event, value!.data], ["loading", '{"bytes":3,"total_bytes":4}']);
  assert.equal(value!.id, `${store.events(id, 0).at(-1)!.id}`, "the id of the last event that is kept");
  step.open();
  await service.until(id, "succeeded");
  assert.equal(await shown(), null);
  assert.ok(!store.events(id, 0).some(({ type }) => type as string === "loading"));
  while (!(await events.next()).done);
});

Deno.test("GET /train/{id}/adapter ends a merge that nobody waits for, or when the worker stops", async () => {
  await using service = await testService();
  const id = await finished(service);
  const merges: AbortSignal[] = [];
  let began = Promise.withResolvers<void>();
  const exportMerged: ExportMerged = async (_model, _adapter, out, signal) => {
    await Deno.mkdir(out);
    await Deno.writeTextFile(join(out, "part"), "half a fi");
    merges.push(signal);
    began.resolve();
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  const stopping = new AbortController();
  const app = createApp({ ...service.service, exportMerged, stopping: stopping.signal });
  const ask = (signal?: AbortSignal) =>
    app.request(
      new Request(`http://localhost/train/${id}/adapter?format=merged`, { ...(signal && { signal }) }),
    );
  const [one, two] = [new AbortController(), new AbortController()];
  const asked = [ask(one.signal), ask(two.signal)];
  await began.promise;
  await new Promise((resolve) => setTimeout(resolve, 200)); // the other comes to wait for it
  one.abort();
  assert.equal((await asked[0]!).status, 499);
  assert.equal(merges[0]!.aborted, false, "the other still waits");
  two.abort();
  assert.equal((await asked[1]!).status, 499);
  assert.ok(merges[0]!.aborted);
  began = Promise.withResolvers();
  const last = ask();
  await began.promise;
  stopping.abort();
  assert.equal((await last).status, 503);
  assert.equal(merges.length, 2);
  const left = await Array.fromAsync(
    Deno.readDir(join(service.root, "state", "jobs", id)),
    ({ name }) => name,
  );
  assert.deepEqual(left.sort(), ["checkpoints", "result", "settings.json"]);
});

Deno.test("GET /train/{id}/adapter refuses a job without a result, and an adapter of a full fine-tuning", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: (id) => id === firstId ? step.opened : undefined });
  let firstId = "";
  firstId = (await service.post("/train", minimal)).body.id;
  const early = await service.get(`/train/${firstId}/adapter`);
  assert.equal(early.status, 409);
  assert.match(early.body.detail, /^Job job-\w+ is (queued|running) and has no result\.$/);
  step.open();
  await service.until(firstId, "succeeded");
  const full = await finished(service, { ...minimal, lora: null });
  assert.equal((await service.get(`/train/${full}/adapter?format=adapter`)).status, 409);
  assert.equal((await service.get(`/train/${full}/adapter?format=full`)).status, 200);
});

const refusals: [name: string, body: unknown, status: number, field: string, detail: RegExp][] = [
  [
    "both gammas",
    { ...minimal, method: { type: "simpo", gamma: 1, gamma_beta_ratio: 0.5 } },
    422,
    "method.gamma_beta_ratio",
    /^method has both gamma 1 and gamma_beta_ratio 0\.5: give one of them\.$/,
  ],
  [
    "a negative beta",
    { ...minimal, method: { type: "simpo", beta: -1 } },
    422,
    "method.beta",
    /more than 0, not -1/,
  ],
  [
    "a broken chat template",
    { ...minimal, chat_template: "{{ messages" },
    422,
    "chat_template",
    /^chat_template is not a Jinja template: ./,
  ],
  [
    "an unknown field",
    { ...minimal, learning_rte: 1 },
    422,
    "learning_rte",
    /is not a known field; known are model,/,
  ],
  [
    "an unknown model",
    { ...minimal, model: "none" },
    404,
    "model",
    /^model names no directory under the root: "none"\.$/,
  ],
  [
    "a module to adapt that the model does not have",
    { ...minimal, lora: { target_modules: ["q_proj", "k_prog"] } },
    422,
    "lora.target_modules",
    /^lora\.target_modules: "k_prog" matches no linear layer of the model; give .*k_proj/,
  ],
  [
    "a module to save that the model does not have",
    { ...minimal, lora: { modules_to_save: ["wte"] } },
    422,
    "lora.modules_to_save",
    /^lora\.modules_to_save: "wte" matches no module of the model; give .*embed_tokens/,
  ],
  [
    "tied tables in a model that has none",
    { ...minimal, lora: { modules_to_save: ["norm"], ensure_weight_tying: true } },
    422,
    "lora.ensure_weight_tying",
    /names no tied table/,
  ],
  ["an unknown data set", { ...minimal, dataset: { path: "none" } }, 404, "dataset.path", /names no file/],
  [
    "a data set outside the root",
    { ...minimal, dataset: { path: "../x" } },
    422,
    "dataset.path",
    /must not climb out/,
  ],
  [
    "an absolute data set",
    { ...minimal, eval_dataset: { path: "/x" } },
    422,
    "eval_dataset.path",
    /must be relative/,
  ],
  [
    "a data set behind a symbolic link that leaves the root",
    { ...minimal, dataset: { path: "outside/deno.json" } },
    422,
    "dataset.path",
    /leads out of the root/,
  ],
  [
    "a folder without rows as a data set",
    { ...minimal, dataset: { path: "model" } },
    422,
    "dataset.path",
    /^dataset\.path: There is no split "train"/,
  ],
  ["no data set", { model: "model" }, 422, "dataset", /^dataset is missing/],
  ["a body that is not JSON", "model", 400, "body", /^The body must be JSON\.$/],
];

for (const [name, body, status, field, detail] of refusals) {
  Deno.test(`POST /train refuses ${name} and serves the next request`, async () => {
    await using service = await testService();
    await Deno.symlink(Deno.cwd(), join(service.root, "outside"));
    const answer = await service.post("/train", body);
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    assert.equal(answer.body.field, field);
    assert.match(answer.body.detail, detail);
    assert.deepEqual((await service.get("/train")).body, { jobs: [], next: null });
    await finished(service);
  });
}

for (
  const [method, path] of [["GET", ""], ["GET", "/events"], ["POST", "/cancel"], ["GET", "/adapter"]] as const
) {
  Deno.test(`${method} /train/{id}${path} answers 404 for an unknown job`, async () => {
    await using service = await testService();
    const response = await service.app.request(`/train/job-1${path}`, { method });
    const body = await response.json();
    assert.deepEqual([response.status, body.field, body.value], [404, "id", "job-1"]);
    assert.equal(body.detail, 'There is no job "job-1".');
  });
}

for (
  const [query, field] of [["limit=0", "limit"], ["limit=x", "limit"], ["before=job-1", "before"], [
    "page=2",
    "page",
  ]]
) {
  Deno.test(`GET /train refuses ?${query}`, async () => {
    await using service = await testService();
    const { status, body } = await service.get(`/train?${query}`);
    assert.deepEqual([status, body.field], [422, field]);
  });
}

Deno.test("POST /train refuses a long Idempotency-Key", async () => {
  await using service = await testService();
  const { status, body } = await service.post("/train", minimal, { "idempotency-key": "x".repeat(256) });
  assert.deepEqual([status, body.field], [422, "idempotency-key"]);
  assert.ok(JSON.stringify(body).length < 1000);
});

Deno.test("the worker's own folders are no model, adapter or data set, and no folder's data set reaches into them", async () => {
  await using service = await testService();
  const { root } = service;
  const row = JSON.stringify({ prompt: "a", chosen: "b", rejected: "c" });
  await Deno.mkdir(`${root}/state/hub/datasets`, { recursive: true });
  await Deno.writeTextFile(`${root}/state/hub/datasets/rows.jsonl`, row);
  await Deno.writeTextFile(`${root}/state/config.json`, "{}");
  await Deno.symlink("state/hub/datasets/rows.jsonl", `${root}/link.jsonl`);
  const dataset = { path: "rows.jsonl" };
  const bodies = [
    { model: "state", dataset },
    { model: "model", dataset: { path: "state/hub/datasets" } },
    { model: "model", dataset: { path: "./state//hub/datasets/rows.jsonl" } },
    { model: "model", dataset: { path: "link.jsonl" } },
    { model: "model", dataset: [dataset, { path: "state/jobs.sqlite" }] },
    { model: "model", dataset, eval_dataset: { path: "state" } },
    { model: "model", dataset, lora: { init_adapter: "state/hub" } },
  ];
  for (const body of bodies) {
    const { status, body: { detail } } = await service.post("/train", body);
    assert.equal(status, 422, detail);
    assert.match(detail, /leads into the worker's own folders: /);
  }
  const score = { model: "model", prompt: "a", candidates: ["b"], adapter: "state/jobs" };
  await Deno.mkdir(`${root}/state/jobs`, { recursive: true });
  assert.match(
    (await service.post("/score", score)).body.detail,
    /^adapter leads into the worker's own folders/,
  );
  const { body: models } = await service.get("/v1/models");
  assert.ok(!models.data.some(({ id }: { id: string }) => id.startsWith("state")));
  await Deno.remove(`${root}/link.jsonl`);
  const { body } = await service.post("/train", {
    model: "model",
    dataset: { path: ".", data_files: "**/rows.jsonl" },
  });
  assert.equal(body.status, "queued", body.detail);
});
