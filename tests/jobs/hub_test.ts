import assert from "node:assert/strict";
import { join } from "node:path";
import { readServerSentEvents } from "../../src/cli/_sse.ts";
import { Hub } from "../../src/hub/hub.ts";
import { bytes, commit, type FakeHub, startFakeHub } from "../helpers/fake_hub.ts";
import { type TestService, testService } from "../helpers/service.ts";

interface Lab {
  readonly fake: FakeHub;
  readonly service: TestService;
  /** Folder of the model, once it is downloaded. */
  readonly model: string;
  readonly cache: string;
}

const text = (text: string) => new TextEncoder().encode(text);
const request = { model: "hf://org/name", dataset: { path: "hf://datasets/org/set", split: "test" } };

async function withHub(test: (lab: Lab) => Promise<void>): Promise<void> {
  await using fake = startFakeHub();
  const weights: [string, Uint8Array] = ["model.safetensors", bytes(5000)];
  fake.repositories.set(
    "org/name",
    new Map([["config.json", text("{}")], ["pytorch_model.bin", bytes(9)], weights]),
  );
  fake.repositories.set(
    "org/lora",
    new Map([["adapter_config.json", text("{}")], ["adapter_model.safetensors", bytes(3)]]),
  );
  fake.repositories.set(
    "datasets/org/set",
    new Map(["train", "test"].map((split) => [`data/${split}-00000-of-00001.parquet`, text(split)])),
  );
  const cache = await Deno.makeTempDir();
  try {
    const hub = new Hub({ cache, endpoint: fake.url, token: null, retryMs: 1 });
    await using service = await testService({ hub });
    await test({ fake, service, cache, model: join(cache, "models/org/name", commit) });
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

const until = async (happened: () => boolean) => {
  while (!happened()) await new Promise((resolve) => setTimeout(resolve, 1));
};

Deno.test("POST /train takes a model and a data set's split from the hub", () =>
  withHub(async ({ fake, service, model, cache }) => {
    const { status, body } = await service.post("/train", request);
    assert.equal(status, 202, JSON.stringify(body));
    assert.deepEqual(body.dataset, request.dataset);
    await service.until(body.id, "succeeded", "failed");
    assert.equal(service.service.store.get(body.id)?.error, null);
    const [trained] = service.engine.trained;
    assert.equal(trained?.model, model);
    const file = join(cache, "datasets/org/set", commit, "data/test-00000-of-00001.parquet");
    assert.deepEqual(trained?.dataset, { paths: [file] });
    assert.equal(await Deno.readTextFile(file), "test");
    assert(!fake.requests.some((request) => /pytorch_model|train-0/.test(request)), fake.requests.join());
  }));

Deno.test("POST /train downloads only the files of the configuration that a data set's README.md declares", () =>
  withHub(async ({ fake, service, cache }) => {
    const card = "---\nconfigs:\n- config_name: en\n  data_files: texts/*.en.jsonl\n" +
      "- config_name: de\n  data_files: [{split: held_out, path: texts/a.de.jsonl}]\n---\n";
    const names = ["a.en", "b.en", "a.de"].map((name) => `texts/${name}.jsonl`);
    const files = new Map(names.map((name) => [name, text("{}")]));
    fake.repositories.set("datasets/org/card", new Map([["README.md", text(card)], ...files]));
    const train = async (more: object) => {
      const dataset = { path: "hf://datasets/org/card", ...more };
      return await service.post("/train", { ...request, dataset });
    };
    assert.deepEqual([(await train({})).body.field, (await train({ name: "fr" })).body.field], [
      "dataset.name",
      "dataset.name",
    ]);
    const wrongSplit = await train({ name: "de" });
    assert.match(wrongSplit.body.detail, /no split "train": the splits are held_out/);

    const { status, body } = await train({ name: "en", split: "train[:50%]" });
    assert.equal(status, 202, JSON.stringify(body));
    assert.equal(body.dataset.name, "en");
    await service.until(body.id, "succeeded", "failed");
    const folder = join(cache, "datasets/org/card", commit);
    const paths = [join(folder, names[0]!), join(folder, names[1]!)];
    assert.deepEqual(service.engine.trained[0]?.dataset, {
      paths: [{ files: paths, slice: { to: 50, percent: true } }],
    });
    assert(!fake.requests.some((request) => request.includes("a.de")), fake.requests.join());
  }));

Deno.test("POST /train?dry_run=true downloads a model's tokenizer and no weights", () =>
  withHub(async ({ fake, service }) => {
    const folder = join(service.root, "model");
    const files = await Promise.all(
      ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
        .map(async (name) => [name, await Deno.readFile(join(folder, name))] as const),
    );
    fake.repositories.set("org/small", new Map([...files, ["model.safetensors", bytes(5000)]]));
    const rows = [{ prompt: "the", chosen: " tin", rejected: " hand" }];
    const asked = { model: "hf://org/small", dataset: { rows } };
    const { status, body } = await service.post("/train?dry_run=true", asked);
    assert.deepEqual([status, body.train?.examples], [200, 1], JSON.stringify(body));
    assert(!fake.requests.some((request) => request.includes("safetensors")), fake.requests.join());
  }));

Deno.test("a job tells how far its model is downloaded", () =>
  withHub(async ({ fake, service }) => {
    const { promise: opened, resolve: open } = Promise.withResolvers<void>();
    fake.beforeFile = (path) => path === "model.safetensors" ? opened : undefined;
    const { id } = (await service.post("/train", request)).body;
    const { store } = service.service;
    const progress = { file: "org/name/model.safetensors", bytes: 0, total_bytes: 5000 };
    await until(() => store.get(id)?.downloading?.file === progress.file);
    assert.deepEqual((await service.get(`/train/${id}`)).body.downloading, progress);
    const { body } = await service.app.request(`/train/${id}/events`);
    const seen: unknown[] = [];
    for await (const { event, data } of readServerSentEvents(body!)) {
      if (event !== "downloading") continue;
      seen.push(JSON.parse(data));
      open();
    }
    assert.deepEqual(seen[0], progress);
    await service.until(id, "succeeded");
    assert.equal(store.get(id)?.downloading, null);
  }));

Deno.test("POST /train refuses what the hub does not have at once, and downloads nothing for it", () =>
  withHub(async ({ fake, service }) => {
    const refusals: [Record<string, unknown>, number, string][] = [
      [{ ...request, model: "hf://org/none" }, 404, "model"],
      [{ ...request, model: "hf://org/lora" }, 422, "model"],
      [{ ...request, model: "hf://none" }, 422, "model"],
      [{ ...request, dataset: { path: "hf://datasets/org/none" } }, 404, "dataset.path"],
      [{ ...request, dataset: { path: "hf://datasets/org/set", split: "dev" } }, 422, "dataset.split"],
      [{ ...request, eval_dataset: { path: "hf://org/set" } }, 422, "eval_dataset.path"],
    ];
    for (const [body, status, field] of refusals) {
      const answer = await service.post("/train", body);
      assert.deepEqual([answer.status, answer.body.field], [status, field], JSON.stringify(answer.body));
    }
    assert(!fake.requests.some((request) => request.includes("/resolve/")), fake.requests.join());
  }));

Deno.test("POST /score downloads a model and an adapter that are not there yet", () =>
  withHub(async ({ service, model, cache }) => {
    const call = { model: "hf://org/name@v1", adapter: "hf://org/lora", prompt: "p", candidates: ["a", "b"] };
    const { status, body } = await service.post("/score", call);
    assert.equal(status, 200, JSON.stringify(body));
    const [scored] = service.engine.scored;
    assert.deepEqual([scored?.model, scored?.adapter], [model, join(cache, "models/org/lora", commit)]);
  }));

Deno.test("a job is cancelled, or put back into the queue by a stop, while its model is downloaded", () =>
  withHub(async ({ fake, service }) => {
    const never = Promise.withResolvers<void>();
    fake.beforeFile = () => never.promise;
    const resolves = () => fake.requests.filter((request) => request.includes("/resolve/")).length;
    const first = (await service.post("/train", request)).body.id;
    await until(() => resolves() === 1);
    await service.post(`/train/${first}/cancel`, {});
    await service.until(first, "cancelled");
    const second = (await service.post("/train", request)).body.id;
    await until(() => resolves() === 2);
    await service.service.runner.stop();
    assert.equal(service.service.store.get(second)?.status, "queued");
    assert.equal(service.engine.trained.length, 0);
    never.resolve();
  }));

Deno.test("names of the hub are refused where there is none", async () => {
  await using service = await testService();
  const { status, body } = await service.post("/train", request);
  assert.deepEqual([status, body.field], [422, "model"]);
});
