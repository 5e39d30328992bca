/** What a worker does as it starts, and what it loads only when a request needs it. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startFakeHub } from "../helpers/fake_hub.ts";
import { makeRealRoot, Worker } from "./_worker.ts";

const SCORE = { model: "models/tiny", prompt: "the", candidates: [" sea", " land"] };

/** What a module imports at once, and what that imports, as `deno info` tells. */
async function importsOf(module: string): Promise<string[]> {
  const url = new URL(`../../${module}`, import.meta.url);
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", fileURLToPath(url)],
    stderr: "inherit",
  }).output();
  const { modules }: {
    modules: { specifier: string; dependencies?: { code?: { specifier: string }; isDynamic?: boolean }[] }[];
  } = JSON.parse(new TextDecoder().decode(stdout));
  const found = new Set([url.href]);
  for (const specifier of found) {
    for (const { code, isDynamic } of modules.find((m) => m.specifier === specifier)?.dependencies ?? []) {
      if (code && !isDynamic) found.add(code.specifier);
    }
  }
  return [...found];
}

Deno.test("neither the server nor the engine's thread imports at its start what a score does not need", async () => {
  const all = async (...modules: string[]) => new Set((await Promise.all(modules.map(importsOf))).flat());
  const server = await all("main.ts", "src/cli/serve.ts", "routes/app.ts", "src/jobs/runner.ts");
  const imports = server.union(await all("src/engine/worker.ts"));
  assert.ok(imports.size > 100, `${[...imports]}`);
  // node:fs and node:crypto alone take 20 ms each, on either thread
  const late =
    /^node:(fs|crypto|zlib|stream)|hyparquet|csv-parse|flechette|fzstd|js-yaml|picomatch|cli-progress|\/training\/loop\.ts$/;
  assert.deepEqual([...imports].filter((name) => late.test(name)), []);
  const ofJobs = /modern-tar|\/src\/(gpu\/|training\/trainable|api\/(job|dataset)\.|model\/config\.)/;
  assert.deepEqual([...server].filter((name) => ofJobs.test(name)), []);
});

Deno.test("the launcher imports no package and little of Node", async () => {
  const imports = await importsOf("launcher.ts");
  assert.ok(imports.includes("node:path"));
  assert.deepEqual(imports.filter((name) => !/^(file|node):/.test(name)), []);
  assert.deepEqual(imports.filter((name) => /^node:/.test(name)).sort(), [
    "node:path",
    "node:url",
    "node:util",
  ]);
});

Deno.test("a worker answers /livez, and a score that waits for the device, as soon as it listens", async () => {
  await using root = await makeRealRoot();
  await using worker = await Worker.start(root.path);
  const [score, live] = await Promise.all([worker.post("/score", SCORE), worker.get("/livez")]);
  assert.equal(live.status, 200);
  assert.equal(score.status, 200, JSON.stringify(score.body));
});

Deno.test("a model of the hub and a Parquet data set are trained and scored with the permissions that the launcher gives serve", async () => {
  await using root = await makeRealRoot();
  await using hub = startFakeHub();
  const folder = join(root.path, "models", "tiny");
  const files = await Array.fromAsync(Deno.readDir(folder), async ({ name }) =>
    [
      name,
      await Deno.readFile(join(folder, name)),
    ] as const);
  hub.repositories.set("org/tiny", new Map(files));
  const rows = new URL("../fixtures/parquet/zstd.parquet", import.meta.url);
  await Deno.copyFile(rows, join(root.path, "rows.parquet"));
  await using worker = await Worker.start(root.path, {
    HF_ENDPOINT: hub.url,
    SIMPO_HOSTS: "localhost", // large files come from there
    SIMPO_TOKEN: "s3cret",
  });
  const token = { authorization: "Bearer s3cret" };

  const model = "hf://org/tiny";
  const job = { model, dataset: { path: "rows.parquet" }, num_train_epochs: 1, batch_size: 4 };
  const { status, body } = await worker.post("/train", job, token);
  assert.equal(status, 202, JSON.stringify(body));
  let trained = body;
  while (trained.status === "queued" || trained.status === "running") {
    await new Promise((resolve) => setTimeout(resolve, 20));
    trained = (await worker.get(`/train/${body.id}`, token)).body;
  }
  assert.equal(trained.status, "succeeded", JSON.stringify(trained.error));
  const scored = await worker.post("/score", { ...SCORE, model, adapter: body.id }, token);
  assert.equal(scored.status, 200, JSON.stringify(scored.body));
});

Deno.test("the image has every module ready that a thread begins with", async () => {
  const root = new URL("../../", import.meta.url);
  const workers: string[] = [];
  for (const path of await readdir(new URL("src", root), { recursive: true })) {
    if (!path.endsWith(".ts")) continue;
    const module = new URL(`src/${path}`, root);
    const text = await Deno.readTextFile(module);
    for (const [, worker] of text.matchAll(/new Worker\(new URL\("([^"]+)"/g)) {
      workers.push(new URL(worker!, module).href.slice(root.href.length));
    }
  }
  const cached = /deno cache --frozen ((?:.*\\\n)*.*)/.exec(
    await Deno.readTextFile(new URL("Dockerfile", root)),
  )![1]!;
  assert.ok(workers.length > 4);
  assert.deepEqual(workers.filter((worker) => !cached.split(/[\s\\]+/).includes(worker)), []);
});
