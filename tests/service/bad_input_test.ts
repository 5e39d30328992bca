/** Bad input over HTTP with a real device: each is refused by name, and the next request is served. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { plainRows, writeTinyModel } from "../helpers/tiny_model.ts";
import { type Answer, makeRealRoot, Worker } from "./_worker.ts";

const TOKEN = { authorization: "Bearer s3cret" };
const SCORE = { model: "models/tiny", prompt: "the", candidates: [" hand", " out"] };
const TRAIN = { model: "models/tiny", dataset: { rows: plainRows(4) }, max_steps: 1, max_length: 96 };

const root = await makeRealRoot();
const model = (name: string) => join(root.path, "models", name);
await writeTinyModel(model("nan"), {
  change: (name, values) => name === "model.layers.0.mlp.up_proj.weight" && (values[100] = NaN),
});
await writeTinyModel(model("small"), { vocabulary: 200 });
const weights = await Deno.readFile(join(model("tiny"), "model.safetensors"));
await Promise.all(["truncated", "long-header", "overlapping"].map((name) => writeTinyModel(model(name))));
await Deno.writeFile(join(model("truncated"), "model.safetensors"), weights.subarray(0, weights.length - 7));
const long = weights.slice();
new DataView(long.buffer).setBigUint64(0, 2n ** 40n, true);
await Deno.writeFile(join(model("long-header"), "model.safetensors"), long);
// the same number of digits, so that the header stays as long as it is
const text = new TextDecoder("latin1").decode(weights);
const moved = text.replace(
  /("model\.norm\.weight":\{[^}]*"data_offsets":\[)(\d+),(\d+)/,
  (_, before, begin, end) => `${before}${begin - 8},${end - 8}`,
);
assert.notEqual(moved, text);
await Deno.writeFile(
  join(model("overlapping"), "model.safetensors"),
  Uint8Array.from(moved, (c) => c.charCodeAt(0)),
);
await Deno.symlink("/etc", join(root.path, "models", "outside"));
await Deno.writeTextFile(
  join(root.path, "broken.jsonl"),
  `${JSON.stringify(plainRows(1)[0])}\n{"prompt": "a", "chosen": \n`,
);

const worker = await Worker.start(root.path, { SIMPO_TOKEN: "s3cret", SIMPO_MAX_BODY: "20000" });

Deno.test.afterAll(async () => {
  await worker[Symbol.asyncDispose]();
  await root[Symbol.asyncDispose]();
});

interface Refusal {
  readonly name: string;
  readonly send: () => Promise<Answer>;
  readonly status: number;
  readonly detail: RegExp;
}

const score = (change: object) => () => worker.post("/score", { ...SCORE, ...change }, TOKEN);
const train = (change: object) => () => worker.post("/train", { ...TRAIN, ...change }, TOKEN);
const method = (change: object) => train({ method: { type: "simpo", ...change } });

const refusals: Refusal[] = [
  {
    name: "no candidates",
    send: score({ candidates: [] }),
    status: 422,
    detail: /^candidates must be .*at least 1/,
  },
  {
    name: "an empty response",
    send: score({ candidates: [""] }),
    status: 422,
    detail: /^candidates\[0\] cannot be scored: the candidate is empty\.$/,
  },
  {
    name: "an unknown model",
    send: score({ model: "models/none" }),
    status: 404,
    detail: /^model names no directory/,
  },
  { name: "a path with ..", send: score({ model: "../etc" }), status: 422, detail: /^model must not climb/ },
  {
    name: "an absolute path",
    send: score({ model: "/etc" }),
    status: 422,
    detail: /^model must be relative/,
  },
  {
    name: "a symbolic link",
    send: score({ model: "models/outside" }),
    status: 422,
    detail: /^model leads out/,
  },
  {
    name: "a data set outside",
    send: train({ dataset: { path: "../x" } }),
    status: 422,
    detail: /^dataset\.path must/,
  },
  {
    name: "both gammas",
    send: method({ gamma: 1, gamma_beta_ratio: 0.5 }),
    status: 422,
    detail: /gamma_beta_ratio/,
  },
  { name: "a negative beta", send: method({ beta: -1 }), status: 422, detail: /^method\.beta must be .*-1/ },
  { name: "a negative beta to score", send: score({ beta: -1 }), status: 422, detail: /^beta must be .*-1/ },
  {
    name: "NaN in weights",
    send: score({ model: "models/nan" }),
    status: 422,
    detail: /up_proj.* NaN or infinity/,
  },
  {
    name: "truncated weights",
    send: score({ model: "models/truncated" }),
    status: 422,
    detail: /is truncated/,
  },
  {
    name: "truncated weights to train",
    send: train({ model: "models/truncated" }),
    status: 422,
    detail: /is truncated/,
  },
  {
    name: "a header longer than the file",
    send: score({ model: "models/long-header" }),
    status: 422,
    detail: /announces a header of 1099511627776 bytes/,
  },
  {
    name: "overlapping tensors",
    send: score({ model: "models/overlapping" }),
    status: 422,
    detail: /overlap|hole/,
  },
  {
    name: "token ids beyond the vocabulary",
    send: score({ model: "models/small" }),
    status: 422,
    detail: /has the token id 2\d\d, but the model's vocabulary has 200 entries/,
  },
  {
    name: "a candidate longer than the context",
    send: score({ candidates: ["x".repeat(200)] }),
    status: 422,
    detail: /has 201 tokens, but the model's context is 128/,
  },
  {
    name: "a body over the limit",
    send: score({ prompt: "x".repeat(30_000) }),
    status: 413,
    detail: /20000 bytes/,
  },
  {
    name: "a wrong token",
    send: () => worker.post("/score", SCORE, { authorization: "Bearer other" }),
    status: 401,
    detail: /bearer token/,
  },
  { name: "an unknown field", send: score({ candidate: "a" }), status: 422, detail: /candidate/ },
  {
    name: "an unknown job",
    send: () => worker.get("/train/job-0", TOKEN),
    status: 404,
    detail: /no job "job-0"/,
  },
  { name: "no JSON", send: () => worker.post("/score", "{", TOKEN), status: 400, detail: /JSON/ },
  {
    name: "a job's id before it has a checkpoint",
    send: score({ adapter: "job-00000000000000000000" }),
    status: 404,
    detail: /^adapter names no directory/,
  },
];

for (const { name, send, status, detail } of refusals) {
  Deno.test(`${name} over HTTP is refused by name, and the next request is served`, async () => {
    const answer = await send();
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    assert.match(answer.body.detail, detail);
    assert.ok(answer.body.field, JSON.stringify(answer.body));
    assert.ok(answer.body.accepted, JSON.stringify(answer.body));
    const next = await worker.post("/score", SCORE, TOKEN);
    assert.equal(next.status, 200);
    assert.equal(next.body.results.length, 2);
  });
}

const failures: [name: string, change: object, message: RegExp, field: RegExp][] = [
  [
    "a broken JSONL line",
    { dataset: { path: "broken.jsonl" }, max_left_out: 0 },
    /row 2 is not JSON/,
    /row 2$/,
  ],
  ["NaN in weights", { model: "models/nan" }, /up_proj.* NaN or infinity/, /up_proj/],
  [
    "token ids beyond the vocabulary",
    { model: "models/small" },
    /vocabulary has 200 entries/,
    /^dataset: row 1$/,
  ],
  [
    "rows without a response",
    { dataset: { rows: [{ prompt: "a", chosen: "", rejected: "" }] } },
    /response 1 of 2 is empty/,
    /^dataset: row 1$/,
  ],
];
for (const [name, change, message, field] of failures) {
  Deno.test(`a job with ${name} fails by name, and the next job succeeds`, async () => {
    const run = async (change: object) => {
      const { body } = await worker.post("/train", { ...TRAIN, ...change }, TOKEN);
      for (;;) {
        const job = (await worker.get(`/train/${body.id}`, TOKEN)).body;
        if (job.finished_at !== null) return job;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    const failed = await run(change);
    assert.equal(failed.status, "failed");
    assert.match(failed.error.message, message);
    assert.match(failed.error.field, field);
    assert.equal((await run({})).status, "succeeded");
  });
}

Deno.test("the process that was asked for all of this is still the same, and stops when told", async () => {
  assert.equal((await worker.get("/readyz")).status, 200);
  assert.equal(await worker.end("SIGTERM"), 0);
});
