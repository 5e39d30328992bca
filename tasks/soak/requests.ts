/** Odd requests to a real service. */
import fc from "fast-check";
import assert from "node:assert/strict";
import { makeRealRoot, Worker } from "../../tests/service/_worker.ts";
import { changed, oddValue, places } from "./_odd.ts";
import type { Soak } from "./_soak.ts";

/** What a request is made of. */
interface FuzzedRequest {
  readonly path: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
}

const MODEL = "models/tiny";

/** Bodies that are right, of which one place is changed. */
const BODIES: readonly [path: string, body: Readonly<Record<string, unknown>>][] = [
  ["/score", { model: MODEL, prompt: "the", candidates: [" sand", " sea"], beta: 2, token_logprobs: true }],
  ["/score", { model: MODEL, messages: [{ role: "user", content: "the" }], candidates: ["a"] }],
  [
    "/score",
    {
      model: MODEL,
      prompt_boundary: "simpo",
      max_length: 40,
      max_prompt_length: 9,
      truncation_mode: "keep_start",
      add_eos_token: false,
      chat_template_kwargs: { enable_thinking: false },
      items: [
        { prompt: [5, 6], candidates: [[7], []] },
        { prompt: "a", candidates: [[{ role: "assistant", content: [{ type: "text", text: "b" }] }], ""] },
      ],
    },
  ],
  ["/score", { model: MODEL, items: [{ prompt: "a", candidates: ["b", "c"] }], quantization: "int8" }],
  ["/v1/completions", { model: MODEL, prompt: ["a", "b"], max_tokens: 0, echo: true, logprobs: 1 }],
  ["/v1/completions", { model: MODEL, prompt: [5, 6, 7], max_tokens: 1, temperature: 0 }],
  ["/train", {
    model: MODEL,
    dataset: { rows: [{ prompt: "a", chosen: "b", rejected: "c" }] },
    method: { type: "simpo", beta: 2, gamma_beta_ratio: 0.5 },
    lora: { r: 2, target_modules: ["q_proj"] },
    learning_rate: 1e-3,
    max_steps: 1,
    batch_size: 1,
    max_length: 32,
    max_prompt_length: 16,
    seed: 1,
  }],
  ["/train", { model: MODEL, dataset: { path: "rows.jsonl" }, eval_dataset: null, lora: null, max_steps: 1 }],
];

const READS = ["/train", "/v1/models", "/openapi.json", "/livez", "/readyz", "/ping", "/train/job-0", "/"];

/** One time in eight, else null. */
function rarely<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> {
  return fc.oneof({ arbitrary: fc.constant(null), weight: 7 }, { arbitrary, weight: 1 });
}

const fuzzedBody: fc.Arbitrary<FuzzedRequest> = fc.constantFrom(...BODIES).chain(([path, body]) =>
  fc.record({
    place: fc.constantFrom(...places(body)),
    put: fc.oneof(oddValue, fc.constant(undefined)),
    extra: rarely(fc.tuple(fc.string({ maxLength: 10 }), oddValue)),
    broken: rarely(fc.nat()),
    headers: fc.constantFrom({}, {}, {}, { accept: "application/x-ndjson" }, { "idempotency-key": "k" }, {
      "content-type": "text/plain",
    }),
  }).map(({ place, put, extra, broken, headers }) => {
    const value = changed(body, place, put);
    const isPlain = typeof value === "object" && value !== null && !Array.isArray(value);
    const text = JSON.stringify(extra && isPlain ? { ...value, [extra[0]]: extra[1] } : value) ?? "";
    return {
      path,
      method: "POST",
      headers: { "content-type": "application/json", ...headers as Record<string, string> },
      body: broken === null ? text : text.slice(0, broken % (text.length + 1)),
    };
  })
);

const fuzzedRead: fc.Arbitrary<FuzzedRequest> = fc.record({
  path: fc.oneof(
    fc.constantFrom(...READS),
    fc.webPath(),
    fc.tuple(fc.constantFrom("limit", "before", "format", "x"), fc.string({ maxLength: 8 })).map((
      [key, value],
    ) => `/train?${key}=${encodeURIComponent(value.toWellFormed())}`),
  ),
  method: fc.constantFrom("GET", "GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"),
  headers: fc.constantFrom({}, { "last-event-id": "x" }, { authorization: "Bearer" }),
  body: fc.constant(null),
}).map((request) => ({ ...request, headers: request.headers as Record<string, string> }));

const anyRequest = fc.oneof({ arbitrary: fuzzedBody, weight: 4 }, { arbitrary: fuzzedRead, weight: 1 });

/** Requests that are under way at one time. */
const AT_A_TIME = 8;

/**
 * Sends requests of one seed to a service of its own.
 *
 * @returns how many answers of each status there were
 * @throws where an answer is a 5xx other than 503, an error is no problem+json with a field, or the process does not live
 */
export async function fuzzRequests(seed: number, count: number, signal?: AbortSignal) {
  await using root = await makeRealRoot();
  await Deno.writeTextFile(`${root.path}/rows.jsonl`, '{"prompt":"a","chosen":"b","rejected":"c"}\n');
  await using worker = await Worker.start(root.path);
  while ((await worker.get("/readyz")).status !== 200) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const requests = fc.sample(anyRequest, { seed, numRuns: count });
  const statuses: Record<string, number> = {};
  for (let i = 0; i < requests.length && !signal?.aborted; i += AT_A_TIME) {
    const batch = requests.slice(i, i + AT_A_TIME);
    for (const status of await Promise.all(batch.map((request) => send(worker, request)))) {
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
    const { status } = await worker.get("/livez");
    assert.equal(status, 200, `GET /livez after request ${i}`);
  }
  // Whatever has come before, a plain request is served.
  const [path, body] = BODIES[0]!;
  assert.equal((await worker.post(path, body)).status, 200);
  assert.equal(await worker.end("SIGTERM"), 0, worker.log(20));
  return { requests: count, statuses };
}

async function send(worker: Worker, request: FuzzedRequest): Promise<number> {
  const { path, method, headers, body } = request;
  const told = `${method} ${path} ${JSON.stringify(headers)} ${body?.slice(0, 2000)}`;
  const response = await fetch(worker.url + path, { method, headers, body }).catch((error) => {
    throw new Error(`${told} had no answer: ${error.message}\n${worker.log(20)}`);
  });
  const { status } = response;
  const text = await response.text();
  assert.ok(status < 500 || status === 503, `${told} answered ${status}: ${text}\n${worker.log(20)}`);
  if (status >= 400 && method !== "HEAD") {
    assert.equal(response.headers.get("content-type"), "application/problem+json", told);
    const problem = JSON.parse(text);
    assert.ok(
      problem.status === status && problem.detail !== "" && typeof problem.field === "string",
      told + text,
    );
  }
  // Jobs are not to gather.
  if (status === 202) await worker.post(`/train/${JSON.parse(text).id}/cancel`, "");
  return status;
}

/** See {@link fuzzRequests}. */
export const requests: Soak = {
  proves:
    "No request ends the service or is answered with a 5xx other than 503, and every refusal names its field.",
  version: 2,
  cells: Array.from({ length: 10 }, (_, i) => `seed ${i + 1}`),
  minutesPerCell: 3,
  run: (cell, signal) => fuzzRequests(Number(cell.split(" ")[1]), 20_000, signal),
};
