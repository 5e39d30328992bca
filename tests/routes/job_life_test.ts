/** What becomes of a job after its end: resumed, fetched as far as it came, deleted; and how much it tells of itself. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DeviceLostError } from "../../src/errors.ts";
import { refusal } from "../helpers/fake_engine.ts";
import { StorageError } from "../../src/jobs/storage.ts";
import { writeChecksums } from "../../src/model/checksum_file.ts";
import { checksumsOf } from "../../src/model/checksums.ts";
import { writeSealedJson } from "../../src/model/sealed_json.ts";
import { gate, makeRoot, type TestService, testService } from "../helpers/service.ts";

const minimal = { model: "model", dataset: { path: "rows.jsonl" } };
const folderOf = ({ root }: TestService, id: string) => join(root, "state", "jobs", id);
const namesIn = async (folder: string) =>
  (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
const isThere = (path: string) => Deno.stat(path).then(() => true, () => false);
const eventually = async (test: () => boolean | Promise<boolean>) => {
  while (!await test()) await new Promise((resolve) => setTimeout(resolve, 1));
};

async function queue(service: TestService, job: object = {}): Promise<string> {
  return (await service.post("/train", { ...minimal, ...job })).body.id;
}

async function finished(service: TestService, job: object = {}): Promise<string> {
  const id = await queue(service, job);
  await service.until(id, "succeeded");
  return id;
}

/** Waits for a job's checkpoint. */
async function checkpointed({ service: { store } }: TestService, id: string, step: number): Promise<void> {
  await eventually(() =>
    store.events(id, 0).some(({ type, data }) => type === "checkpoint" && data["step"] === step)
  );
}

async function remove({ app }: TestService, id: string) {
  const response = await app.request(`/train/${id}`, { method: "DELETE" });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
}

/** A job that was cancelled after a step of three. */
async function cancelled(service: TestService, step: ReturnType<typeof gate>): Promise<string> {
  const id = await queue(service);
  await checkpointed(service, id, 1);
  await service.post(`/train/${id}/cancel`, "");
  step.open();
  await service.until(id, "cancelled");
  return id;
}

/** A service whose jobs wait before their second step. */
async function withCancelled(test: (service: TestService, id: string) => Promise<void>): Promise<void> {
  const step = gate();
  await using service = await testService({ beforeStep: (_, n) => n === 2 ? step.opened : undefined });
  await test(service, await cancelled(service, step));
}

async function archived(service: TestService, path: string): Promise<string> {
  const response = await service.app.request(path);
  assert.equal(response.status, 200, path);
  const bytes = await response.bytes();
  assert.equal(response.headers.get("content-length"), `${bytes.length}`);
  return new TextDecoder().decode(bytes);
}

Deno.test("DELETE /train/{id} removes a job, its events and its folder, and frees its idempotency key", async () => {
  await using service = await testService();
  const key = { "idempotency-key": "k" };
  const { id } = (await service.post("/train", minimal, key)).body;
  await service.until(id, "succeeded");
  const other = await finished(service);
  assert.deepEqual(await remove(service, id), { status: 204, body: null });
  assert.equal(await isThere(folderOf(service, id)), false);
  for (const path of [`/train/${id}`, `/train/${id}/events`, `/train/${id}/adapter`]) {
    assert.equal((await service.get(path)).status, 404, path);
  }
  assert.equal((await remove(service, id)).status, 404);
  const { jobs } = (await service.get("/train")).body;
  assert.deepEqual(jobs.map((job: { id: string }) => job.id), [other]);
  assert.ok(await isThere(join(folderOf(service, other), "result")));
  const scored = await service.post("/score", {
    model: "model",
    prompt: "a",
    candidates: ["b"],
    adapter: id,
  });
  assert.deepEqual([scored.status, scored.body.field], [404, "adapter"]);
  const again = (await service.post("/train", { ...minimal, seed: 1 }, key)).body;
  assert.ok(again.id !== id && again.id !== other);
  assert.deepEqual(service.service.store.deleted(), []);
});

Deno.test("DELETE /train/{id} refuses a job that has not ended, and one that such a job begins with", async () => {
  const step = gate();
  let held = "";
  await using service = await testService({ beforeStep: (id) => id === held ? step.opened : undefined });
  const first = await finished(service);
  const { store } = service.service;
  held = await queue(service);
  const waiting = await queue(service);
  for (const id of [held, waiting]) {
    const { status, body } = await remove(service, id);
    assert.equal(status, 409);
    assert.match(
      body.detail,
      /^Job job-\w+ is (queued|running) and cannot be deleted: end it with POST \/train\/job-\w+\/cancel\.$/,
    );
  }
  const spec = store.get(first)!;
  const settings = { ...spec.settings, lora: { ...spec.settings.lora!, init_adapter: first } };
  const child = "job-00000000000000000000";
  store.create(child, { ...spec, dataset: { path: "rows.jsonl" }, eval_dataset: null, settings });
  const { status, body } = await remove(service, first);
  assert.deepEqual([status, body.field], [409, "id"]);
  assert.ok(body.detail.includes(child), body.detail);
  await service.post(`/train/${child}/cancel`, "");
  assert.equal((await remove(service, first)).status, 204);
  step.open();
  await service.until(waiting, "succeeded");
});

Deno.test("DELETE /train/{id} leaves a score and a download that are under way their files", async () => {
  const item = gate();
  await using service = await testService({ beforeItem: (index) => index === 1 ? item.opened : undefined });
  const id = await finished(service);
  const items = [1, 2].map(() => ({ prompt: "a", candidates: ["b"] }));
  const score = service.post("/score", { model: "model", adapter: id, items });
  await eventually(() => service.engine.scored.length === 1);
  const download = (await service.app.request(`/train/${id}/adapter`)).body!.getReader();
  assert.ok(!(await download.read()).done);
  assert.equal((await remove(service, id)).status, 204);
  assert.equal((await service.get(`/train/${id}`)).status, 404);
  assert.ok(await isThere(join(folderOf(service, id), "result")));
  item.open();
  assert.equal((await score).status, 200);
  assert.ok(await isThere(join(folderOf(service, id), "result")));
  while (!(await download.read()).done);
  await eventually(async () => !await isThere(folderOf(service, id)));
});

Deno.test("DELETE /train/{id} that was cut short is brought to its end by the next start", async () => {
  const root = await makeRoot();
  try {
    const before = await testService({ root });
    const id = await finished(before);
    before.service.store.delete(id); // and then the process ends
    await before.stop();
    assert.ok(await isThere(folderOf(before, id)));
    await using after = await testService({ root });
    assert.equal((await after.get(`/train/${id}`)).status, 404);
    await eventually(() => after.service.store.deleted().length === 0);
    assert.equal(await isThere(folderOf(after, id)), false);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("GET /train goes on with its next page where the jobs of the page before were deleted", async () => {
  await using service = await testService();
  const ids: string[] = [];
  for (let n = 0; n < 5; n++) ids.unshift(await finished(service));
  const seen: string[] = [];
  for (let next: string | null = "/train?limit=2"; next !== null;) {
    const { body }: { body: { jobs: { id: string }[]; next: string | null } } = await service.get(next);
    for (const { id } of body.jobs) assert.equal((await remove(service, id)).status, 204);
    seen.push(...body.jobs.map(({ id }) => id));
    next = body.next;
  }
  assert.deepEqual(seen, ids);
});

Deno.test("GET /train/{id} tells the size of a job's folder, from which AdamW's moments go when it has succeeded", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: (_, n) => n === 3 ? step.opened : undefined });
  const id = await queue(service);
  assert.equal((await service.get(`/train/${id}`)).body.bytes, null);
  const folder = folderOf(service, id);
  const size = async (path: string): Promise<number> => {
    const sizes = await Array.fromAsync(
      Deno.readDir(path),
      ({ name, isDirectory }) =>
        isDirectory ? size(join(path, name)) : Deno.stat(join(path, name)).then(({ size }) => size),
    );
    return sizes.reduce((sum, each) => sum + each, 0);
  };
  const shown = async () => (await service.get(`/train/${id}`)).body.bytes;
  await checkpointed(service, id, 2);
  await eventually(async () => await shown() === await size(folder));
  assert.deepEqual(await namesIn(join(folder, "checkpoints", "step-000002")), [
    "adapter_config.json",
    "optimizer.safetensors",
    "trainer_state.json",
  ]);
  step.open();
  await service.until(id, "succeeded");
  const atEnd = await shown();
  await eventually(() => service.service.store.untidied().length === 0);
  for (const name of await namesIn(join(folder, "checkpoints"))) {
    assert.deepEqual(await namesIn(join(folder, "checkpoints", name)), [
      "adapter_config.json",
      "trainer_state.json",
    ]);
  }
  assert.deepEqual([atEnd, await shown()], [await size(folder), await size(folder)]);
  await archived(service, `/train/${id}/adapter?format=merged`);
  assert.equal(await shown(), await size(folder));
});

Deno.test("a job that succeeded right before a crash loses its moments at the next start, and one that was cancelled keeps them", async () => {
  const root = await makeRoot();
  try {
    const step = gate();
    const before = await testService({ root, beforeStep: (_, n) => n === 2 ? step.opened : undefined });
    const kept = await cancelled(before, step);
    const id = await finished(before);
    await before.stop();
    const moments = (id: string) =>
      join(folderOf(before, id), "checkpoints", "step-000001", "optimizer.safetensors");
    await Deno.writeTextFile(moments(id), "moments");
    const { DatabaseSync } = await import("node:sqlite");
    const db = new DatabaseSync(join(root, "state", "jobs.sqlite"));
    db.exec("UPDATE jobs SET tidied = 0");
    db.close();
    await using after = await testService({ root });
    await eventually(() => after.service.store.untidied().length === 0);
    assert.deepEqual([await isThere(moments(id)), await isThere(moments(kept))], [false, true]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("GET /train/{id}/adapter?step= gives a checkpoint of a job that was cancelled, without what only a run needs", () =>
  withCancelled(async (service, id) => {
    assert.equal((await service.get(`/train/${id}/adapter`)).status, 409);
    for (const step of ["latest", "1"]) {
      const text = await archived(service, `/train/${id}/adapter?step=${step}`);
      assert.ok(text.includes('{"step":1}') && !text.includes("moments"), step);
    }
    assert.ok((await archived(service, `/train/${id}/adapter?step=latest&format=merged`)).includes("merged"));
    const missing = await service.get(`/train/${id}/adapter?step=7`);
    assert.deepEqual([missing.status, missing.body.field, missing.body.accepted], [
      409,
      "step",
      "latest, or one of 1",
    ]);
    assert.equal(missing.body.detail, `Job ${id} has no checkpoint of step 7: there are 1.`);
    const odd = await service.get(`/train/${id}/adapter?step=newest`);
    assert.deepEqual([odd.status, odd.body.field, odd.body.accepted], [
      422,
      "step",
      '"latest" or the step of a checkpoint',
    ]);
  }));

Deno.test("GET /train/{id}/adapter?step=latest gives the newest checkpoint of a job that failed", async () => {
  await using service = await testService({
    beforeStep: (_, n) => {
      if (n === 3) throw refusal("dataset");
    },
  });
  const id = await queue(service);
  await service.until(id, "failed");
  assert.ok((await archived(service, `/train/${id}/adapter?step=latest`)).includes('{"step":2}'));
});

Deno.test("GET /train/{id}/adapter?step=latest gives a running job's newest checkpoint, and 409 before the first", async () => {
  const [first, second] = [gate(), gate()];
  await using service = await testService({ beforeStep: (_, n) => [first, second][n - 1]?.opened });
  const id = await queue(service);
  await service.until(id, "running");
  const early = await service.get(`/train/${id}/adapter?step=latest`);
  assert.deepEqual([early.status, early.body.detail], [409, `Job ${id} has no checkpoint yet.`]);
  first.open();
  await checkpointed(service, id, 1);
  assert.ok((await archived(service, `/train/${id}/adapter?step=latest`)).includes('{"step":1}'));
  second.open();
  await service.until(id, "succeeded");
  assert.ok((await archived(service, `/train/${id}/adapter?step=latest`)).includes('{"step":3}'));
});

Deno.test("POST /train/{id}/resume goes on with a cancelled job from its newest checkpoint, with the metrics of one life", () =>
  withCancelled(async (service, id) => {
    const { status, body } = await service.post(`/train/${id}/resume`, "");
    assert.equal(status, 202);
    assert.deepEqual([body.cancel_requested, body.finished_at], [false, null]);
    await service.until(id, "succeeded");
    const other = await finished(service);
    const metrics = (id: string) =>
      service.service.store.events(id, 0).filter(({ type }) => type === "metrics").map(({ data }) => data);
    assert.deepEqual(metrics(id), metrics(other));
    const running = service.service.store.events(id, 0).filter(({ data }) => data["status"] === "running");
    assert.deepEqual(running.map(({ data }) => data["resumed_from"]), [0, 1]);
    const again = await service.post(`/train/${id}/resume`, "");
    assert.deepEqual([again.status, again.body.detail], [
      409,
      `Job ${id} has succeeded and cannot be resumed.`,
    ]);
  }));

Deno.test("POST /train/{id}/resume takes up a job that failed, after three losses of the device too; not one that runs", async () => {
  let broken = true;
  const step = gate();
  await using service = await testService({
    beforeStep: (_, n) => {
      if (broken && n === 2) throw new DeviceLostError("The GPU device was lost: test.");
      return n === 3 ? step.opened : undefined;
    },
  });
  const id = await queue(service);
  await service.until(id, "failed");
  broken = false;
  assert.deepEqual((await service.post(`/train/${id}/resume`, "")).body.error, null);
  await service.until(id, "running");
  const running = await service.post(`/train/${id}/resume`, "");
  assert.deepEqual([running.status, running.body.detail], [
    409,
    `Job ${id} is running and cannot be resumed.`,
  ]);
  step.open();
  await service.until(id, "succeeded");
  service.engine.failing.set("model", refusal("dataset"));
  const refused = await queue(service);
  await service.until(refused, "failed");
  service.engine.failing.clear();
  await service.post(`/train/${refused}/resume`, "");
  await service.until(refused, "succeeded");
});

Deno.test("POST /train/{id}/resume lets a run go on over changes where it is told to, until its next checkpoint", () =>
  withCancelled(async (service, id) => {
    for (
      const [body, status] of [['{"accept_changes":1}', 422], ['{"accept":true}', 422], ["[]", 422], [
        "{",
        400,
      ]]
    ) {
      const answer = await service.post(`/train/${id}/resume`, body!);
      assert.equal(answer.status, status, `${body}`);
    }
    // as curl sends it without a header
    const form = await service.app.request(`/train/${id}/resume`, {
      method: "POST",
      body: '{"accept_changes":true}',
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
    assert.deepEqual([form.status, (await form.json()).accepted], [415, "application/json"]);
    const lastRequest = () => service.engine.trained.at(-1)!;
    service.engine.failing.set("model", refusal("dataset"));
    const resumed = async (body: unknown) => {
      assert.equal((await service.post(`/train/${id}/resume`, body)).status, 202);
      await service.until(id, service.engine.failing.size > 0 ? "failed" : "succeeded");
      return lastRequest().accept_changes ?? false;
    };
    assert.deepEqual([await resumed(""), await resumed({ accept_changes: true })], [false, true]);
    assert.deepEqual([await resumed({}), await resumed({ accept_changes: false })], [false, false]);
    const bare = await service.app.request(`/train/${id}/resume`, { method: "POST" });
    assert.equal(bare.status, 202);
    await service.until(id, "failed");
    service.engine.failing.clear();
    assert.equal(await resumed({ accept_changes: true }), true);
    assert.equal(await isThere(join(folderOf(service, id), "accept_changes")), false);
  }));

Deno.test("a damaged result is passed over for the checkpoint before it, which is said once in the job's warnings", async () => {
  await using service = await testService();
  const id = await finished(service);
  await eventually(() => service.service.store.untidied().length === 0);
  const [result, checkpoints] = ["result", "checkpoints"].map((name) => join(folderOf(service, id), name));
  await writeChecksums(result!, {});
  const flip = async (path: string) => {
    const bytes = await Deno.readFile(path);
    bytes[0]! ^= 1;
    await Deno.writeFile(path, bytes);
  };
  const score = { model: "model", prompt: "a", candidates: ["b"], adapter: id };
  const used = async () => {
    assert.equal((await service.post("/score", score)).status, 200);
    return service.engine.scored.at(-1)!.adapter;
  };
  assert.equal(await used(), result);
  await flip(join(result!, "adapter_model.safetensors"));
  const { store } = service.service;
  const { record } = store;
  store.record = () => {
    throw new StorageError("database or disk is full", true); // what cannot be said keeps nobody from scoring
  };
  assert.equal(await used(), join(checkpoints!, "step-000003"));
  store.record = record;
  assert.equal(await used(), join(checkpoints!, "step-000003"));
  assert.ok((await archived(service, `/train/${id}/adapter`)).includes('{"step":3}'));
  const { warnings } = (await service.get(`/train/${id}`)).body;
  assert.deepEqual(warnings.slice(1), [
    "The result is damaged, so step-000003 is used in its place: adapter_model.safetensors is not as it was written: " +
    "its checksum is another.",
  ]);
  // a checkpoint's own checksums, without the moments that have gone
  const newest = join(checkpoints!, "step-000003");
  const files = { ...await checksumsOf(newest), "optimizer.safetensors": { bytes: 1, crc32: "00000000" } };
  await writeSealedJson(join(newest, "manifest.json"), { version: 2, files });
  assert.equal(await used(), newest);
  assert.ok(!(await archived(service, `/train/${id}/adapter?step=3`)).includes("manifest.json"));
  await flip(join(newest, "adapter_config.json"));
  assert.equal(await used(), join(checkpoints!, "step-000002"));
  const refused = await service.get(`/train/${id}/adapter?step=3`);
  assert.deepEqual([refused.status, refused.body.field], [409, "step"]);
  assert.match(
    refused.body.detail,
    /^The checkpoint of step 3 of job \S+ is damaged: adapter_config\.json is not as /,
  );
  await Deno.remove(checkpoints!, { recursive: true });
  for (const answer of [await service.post("/score", score), await service.get(`/train/${id}/adapter`)]) {
    assert.equal(answer.status, 409);
    assert.match(
      answer.body.detail,
      /The result of job \S+ is damaged, and it has no checkpoint: adapter_model/,
    );
  }
});

Deno.test("GET /train/{id} shows a job's warnings, the first 50 and how many there were", async () => {
  await using service = await testService();
  const id = await finished(service);
  const shown = async () => {
    const { warnings, warning_count } = (await service.get(`/train/${id}`)).body;
    return { warnings, warning_count };
  };
  assert.deepEqual(await shown(), { warnings: ["this is a fake"], warning_count: 1 });
  const { store } = service.service;
  for (let n = 0; n < 60; n++) store.record(id, { type: "warning", message: `warning ${n}` });
  store.record(id, { type: "warning", message: "warning 7" }); // as a resumed job says it again
  const { warnings, warning_count } = await shown();
  assert.deepEqual([warnings.length, warnings[49], warning_count], [50, "warning 48", 61]);
});

Deno.test("GET /train/{id} is less than 20 kB whatever the job's data, settings, errors and warnings", async () => {
  const long = "\u0001å".repeat(100_000);
  const leftOut = Array.from(
    { length: 100_000 },
    (_, i) => ({ row: i + 1, reason: `${i} ${long.slice(0, 300)}` }),
  );
  await using service = await testService({ leftOut, maxBodyBytes: 1 << 26 });
  const { store } = service.service;
  const id = await finished(service, {
    chat_template: `{# ${long.slice(0, 60_000)} #}`,
    dataset: { rows: Array(20).fill({ prompt: long, chosen: "b", rejected: "c" }) },
  });
  for (let n = 0; n < 60; n++) store.record(id, { type: "warning", message: `${n} ${long}` });
  const field = `dataset.${long}`;
  store.finish(id, "failed", {
    message: long,
    field,
    value: Array(100_000).fill({ long: 1 }),
    accepted: long,
  });
  const response = await service.app.request(`/train/${id}`);
  const text = await response.text();
  assert.ok(new TextEncoder().encode(text).length < 20_000, `${text.length}`);
  const list = await (await service.app.request("/train")).text();
  assert.ok(new TextEncoder().encode(list).length < 20_000, `${list.length}`);
  const job = JSON.parse(text);
  assert.equal(job.rows_left_out.count, leftOut.length);
  assert.equal(job.rows_left_out.reasons.at(-1).reason, "other reasons");
  assert.ok(job.rows_left_out.first.length > 0 && job.rows_left_out.first.length <= 20);
  assert.match(job.settings.chat_template, /… \(60006 characters\)$/);
  assert.match(job.error.message, /… \(200000 characters\)$/);
  assert.equal(service.engine.trained[0]!.settings.chat_template?.length, 60_006);
  store.finish(id, "failed", { message: "m", value: Array(100_000).fill(1n) });
  assert.match((await service.get(`/train/${id}`)).body.error.value, /^\["1","1",/);
  const events = await (await service.app.request(`/train/${id}/events`)).text();
  assert.ok(events.length < 1_000_000, `${events.length}`);
});

// Some of these were short from the first, and are to stay so.
for (
  const [name, body] of [
    ["a list of many rows where a name belongs", { ...minimal, model: Array(100_000).fill("row") }],
    ["a long text where a number belongs", { ...minimal, seed: "9".repeat(1_000_000) }],
    ["a long unknown field", { ...minimal, ["x".repeat(1_000_000)]: 1 }],
    ["a long model", { ...minimal, model: "m".repeat(1_000_000) }],
    ["a long model of short folders", { ...minimal, model: "m/".repeat(500_000) }],
    ["a long data set", { ...minimal, dataset: { path: "d".repeat(1_000_000) } }],
    ["many modules", {
      ...minimal,
      lora: { target_modules: Array.from({ length: 50_000 }, (_, i) => `m${i}`) },
    }],
    ["a row that is a long list", { ...minimal, dataset: { rows: [Array(100_000).fill(1)] } }],
  ] as const
) {
  Deno.test(`POST /train refuses ${name} in less than 8 kB`, async () => {
    await using service = await testService({ maxBodyBytes: 1 << 23 });
    const { status, body: problem } = await service.post("/train", body);
    assert.ok(status === 422 || status === 404, `${status} ${JSON.stringify(problem).slice(0, 300)}`);
    assert.ok(JSON.stringify(problem).length < 8_000, `${JSON.stringify(problem).length}`);
    assert.ok(JSON.stringify(problem.value ?? null).length < 1100);
  });
}

Deno.test("HEAD /train/{id}/events leaves no subscription behind, GET none once it is left", async () => {
  const { opened, open } = gate();
  await using service = await testService({ beforeStep: () => opened });
  const { store } = service.service;
  let subscribed = 0;
  const subscribe = store.subscribe.bind(store);
  store.subscribe = (...args) => {
    const end = subscribe(...args);
    subscribed++;
    return () => (subscribed--, end());
  };
  const path = `/train/${await queue(service)}/events`;
  assert.equal((await service.app.request(path, { method: "HEAD" })).status, 200);
  assert.equal(subscribed, 0);
  const answer = await service.app.request(path);
  assert.equal(subscribed, 1);
  await answer.body!.cancel();
  assert.equal(subscribed, 0);
  open();
});
