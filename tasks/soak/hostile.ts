/** What is made to do harm, beside a job that runs: templates, model folders and numbers. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { filesOf } from "../../tests/engine/_lab.ts";
import { plainRows } from "../../tests/helpers/tiny_model.ts";
import { makeRealRoot, Worker } from "../../tests/service/_worker.ts";
import type { Soak } from "./_soak.ts";

const MODEL = "models/tiny";
const SCORE = { model: MODEL, prompt: "the thin", candidates: [" sand", " other hand"] };
const MESSAGES = { model: MODEL, messages: [{ role: "user", content: "the thin" }], candidates: [" sand"] };

/** Longer than any cell; it is cancelled at the end of the hostile part, and its metrics up to there are compared. */
const TRAIN = {
  model: MODEL,
  dataset: { rows: plainRows(16) },
  lora: { r: 4 },
  max_steps: 100_000,
  batch_size: 2,
  max_length: 96,
  logging_steps: 1,
  save_steps: 1000,
  lr_scheduler_type: "constant",
  warmup_ratio: 0,
};

/** Steps whose metrics are compared with those of the same job let alone. */
const COMPARED = 40;

/** Ten sizes of a statement's work. */
const SIZES = [3, 10, 20, 30, 100, 1000, 10_000, 1e6, 1e9, 1e15];

/** Templates that grow, loop, nest or search. */
const TEMPLATES: readonly ((size: number) => string)[] = [
  (n) =>
    `{% set ns = namespace(t='ab') %}{% for i in range(${n}) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}`,
  (n) =>
    `{% set ns = namespace(l=[1]) %}{% for i in range(${n}) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l }}`,
  (n) =>
    `{% for a in range(${n}) %}{% for b in range(${n}) %}{% for c in range(${n}) %}x{% endfor %}{% endfor %}{% endfor %}`,
  (n) => `{{ 'x' * ${n} }}`,
  (n) => `{{ [0] * ${n} }}`,
  (n) => `{{ ('x' * ${n}).replace('x', 'y' * ${n}) }}`,
  (n) => `{{ '%${n}d' % 1 }}`,
  (n) => `{{ '{:>${n}}'.format(1) }}`,
  (n) => `{{ 'x'.center(${n}) }}{{ 'x'|indent(${n}) }}`,
  (n) => `{% macro m(i) %}{{ m(i + 1) if i < ${n} }}{% endmacro %}{{ m(0) }}`,
  (n) => `{% for i in [[1]] recursive %}{{ loop([i, i]) if loop.depth < ${n} }}{% endfor %}`,
  (n) => `{{ range(${n})|list|sort|reverse|join('') }}`,
  (n) => `{{ (range(${Math.min(n, 1e6)})|list|string).split(',')|unique|list|length }}`,
  (n) => `{{ 2 ** ${n} }}`,
  (n) => `{{ ${"(".repeat(Math.min(n, 30_000))}1${")".repeat(Math.min(n, 30_000))} }}`,
  (n) => `{{ ${"[".repeat(Math.min(n, 30_000))}1${"]".repeat(Math.min(n, 30_000))} }}`,
  (n) => `${"\n".repeat(Math.min(n, 65_480))}{{ 1 }}`,
  (n) => `${"{% if 1 %}".repeat(Math.min(n, 5000))}x${"{% endif %}".repeat(Math.min(n, 5000))}`,
  (n) =>
    `{% set ns = namespace(d={}) %}{% for i in range(${n}) %}{% set ns.d = {'a': ns.d, 'b': ns.d} %}{% endfor %}{{ ns.d|tojson }}`,
  (n) => `{{ ('a' * ${n})|wordwrap(1) }}{{ ('a ' * ${n})|title|wordcount }}`,
];

/** What may stand for one of a model's files. */
const DAMAGES: readonly [told: string, make: (path: string, whole: Uint8Array) => Promise<unknown>][] = [
  ["a FIFO", (path) => new Deno.Command("mkfifo", { args: [path] }).output()],
  ["a folder", (path) => Deno.mkdir(path)],
  ["a link to /dev/zero", (path) => Deno.symlink("/dev/zero", path)],
  ["a link to itself", (path) => Deno.symlink(path, path)],
  ["a link out of the root", (path) => Deno.symlink("/etc/passwd", path)],
  ["empty", (path) => Deno.writeFile(path, new Uint8Array())],
  ["half", (path, whole) => Deno.writeFile(path, whole.subarray(0, whole.length >> 1))],
  ["noise", (path) => Deno.writeFile(path, crypto.getRandomValues(new Uint8Array(60_000)))],
  [
    "sparse, of 8 GiB",
    (path) => Deno.writeFile(path, new Uint8Array(1)).then(() => Deno.truncate(path, 8 * 2 ** 30)),
  ],
  ["nested", (path) => Deno.writeTextFile(path, `${"[".repeat(2e6)}${"]".repeat(2e6)}`)],
  ["a list of a million", (path) => Deno.writeTextFile(path, `[${"0,".repeat(1e6)}0]`)],
  ["null", (path) => Deno.writeTextFile(path, "null")],
];

/** Changes to a JSON file's value, some of which no file has a place for. */
const JSON_CHANGES: readonly [told: string, change: (value: Record<string, unknown>) => unknown][] = [
  ...["num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads", "intermediate_size"].flatMap((
    name,
  ) =>
    [1e6, 1e9, 2 ** 53, 1e308, -1, 0.5].map((n) =>
      [`${name} ${n}`, (value: Record<string, unknown>) => ({ ...value, [name]: n })] as const
    )
  ).map(([told, change]) => [told, change] as [string, (value: Record<string, unknown>) => unknown]),
  ["a pattern that backtracks", (value) => ({
    ...value,
    pre_tokenizer: { type: "Split", pattern: { Regex: "(a+)+$" }, behavior: "Isolated", invert: false },
  })],
  ["a replacement that backtracks", (value) => ({
    ...value,
    normalizer: { type: "Replace", pattern: { Regex: "(a|a)+$" }, content: "b" },
  })],
  ["nested patterns", (value) => ({
    ...value,
    pre_tokenizer: {
      type: "Split",
      pattern: { Regex: "(".repeat(5000) + ")".repeat(5000) },
      behavior: "Isolated",
      invert: false,
    },
  })],
  ["an added token of id 1e9", (value) => ({
    ...value,
    added_tokens: [{
      id: 1e9,
      content: "<far>",
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    }],
  })],
  ["a vocabulary of ids by the billion", (value) => ({
    ...value,
    model: { ...value["model"] as object, vocab: { a: 4e9, b: 2 ** 53 } },
  })],
  ["a template that doubles", (value) => ({ ...value, chat_template: TEMPLATES[0]!(30) })],
  [
    "a normalizer nested deep",
    (value) =>
      JSON.stringify({ ...value, normalizer: null }).replace(
        '"normalizer":null',
        `"normalizer":${'{"type":"Sequence","normalizers":['.repeat(20_000)}{"type":"NFC"}${
          "]}".repeat(20_000)
        }`,
      ),
  ],
];

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Numbers that few expect. */
const NUMBERS: readonly unknown[] = [
  ...[0, -0, 1, -1, 0.5, -0.5, 1.5, 3, 1e-5, 1e-38, 1e-45, 1e-46, 5e-324, -5e-324],
  ...[7, 8, 15, 16, 17, 31, 32, 33, 8, 16, 24, 31, 32, 33, 52, 53, 54, 63, 64, 127, 128, 255, 1023].map((e) =>
    2 ** e
  ),
  ...[
    1e3,
    1e6,
    1e9,
    1e16,
    9.3e18,
    1e19,
    1e38,
    3.5e38,
    1e39,
    1e100,
    1e308,
    Number.MAX_VALUE,
    -1e308,
    -(2 ** 53),
  ],
];

/** What is asked of a service beside its job. */
type Hostile = { readonly told: string; readonly path: string; readonly body: unknown };

/** As much of a JSON schema as is walked. */
interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
}

/** Places of numbers in what a schema describes. */
function* numericFields(
  schema: Schema | undefined,
  named: Readonly<Record<string, Schema>>,
  path: readonly string[] = [],
): Generator<readonly string[]> {
  if (path.length > 6 || schema === undefined) return;
  if (schema.$ref) return yield* numericFields(named[schema.$ref.split("/").at(-1)!], named, path);
  if (["number", "integer"].some((type) => [schema.type].flat().includes(type))) yield path;
  for (const part of [...schema.anyOf ?? [], ...schema.oneOf ?? [], ...schema.allOf ?? []]) {
    yield* numericFields(part, named, path);
  }
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    yield* numericFields(inner, named, [...path, name]);
  }
  if (schema.items) yield* numericFields(schema.items, named, [...path, "0"]);
}

function put(value: unknown, [key, ...rest]: readonly string[], number: unknown): unknown {
  if (key === undefined) return number;
  if (key === "0") return [put(Array.isArray(value) ? value[0] : undefined, rest, number)];
  const copy: Record<string, unknown> = typeof value === "object" && value !== null && !Array.isArray(value)
    ? { ...value }
    : {};
  copy[key] = put(copy[key], rest, number);
  return copy;
}

async function* hostileNumbers(worker: Worker): AsyncGenerator<Hostile> {
  const { paths, components } = (await worker.get("/openapi.json")).body;
  const rows = [{ prompt: "a", chosen: "b", rejected: "c" }];
  const bodies: Record<string, unknown> = {
    "/score": SCORE,
    "/v1/completions": { model: MODEL, prompt: "the", max_tokens: 1 },
    "/train": { model: MODEL, dataset: { rows }, max_length: 32 },
  };
  for (const [path, body] of Object.entries(bodies)) {
    const { schema } = paths[path].post.requestBody.content["application/json"];
    const fields = new Map([...numericFields(schema, components.schemas)].map((at) => [at.join("."), at]));
    for (const [name, at] of fields) {
      for (const number of NUMBERS) {
        const told = `${path} ${name} ${number}`;
        yield { told, path, body: put(body, at, number) };
      }
    }
  }
}

async function* hostileTemplates(): AsyncGenerator<Hostile> {
  for (const template of TEMPLATES) {
    for (const size of SIZES) {
      const chat_template = template(size);
      yield { told: chat_template.slice(0, 200), path: "/score", body: { ...MESSAGES, chat_template } };
    }
  }
}

async function* hostileFolders(root: string): AsyncGenerator<Hostile> {
  const whole = await filesOf(join(root, MODEL));
  const make = async (name: string, damage: (path: string) => Promise<unknown>) => {
    const folder = `hostile-${crypto.randomUUID()}`;
    await Deno.mkdir(join(root, folder));
    for (const [other, bytes] of Object.entries(whole)) {
      if (other !== name) await Deno.writeFile(join(root, folder, other), bytes);
    }
    await damage(join(root, folder, name)).catch(() => {});
    return folder;
  };
  const prompt = `${"a".repeat(5000)}b`;
  const bodies = (folder: string) => [
    { path: "/score", body: { ...SCORE, prompt, model: folder } },
    { path: "/score", body: { ...SCORE, prompt, adapter: folder } },
    { path: "/v1/completions", body: { model: folder, prompt, max_tokens: 1 } },
  ];
  for (const name of [...Object.keys(whole), "chat_template.jinja", "generation_config.json"]) {
    for (const [what, damage] of DAMAGES) {
      const folder = await make(name, (path) => damage(path, whole[name] ?? new Uint8Array(100)));
      for (const ask of bodies(folder)) yield { told: `${name} is ${what}, ${ask.path}`, ...ask };
    }
  }
  for (const name of Object.keys(whole).filter((name) => name.endsWith(".json"))) {
    const value = JSON.parse(new TextDecoder().decode(whole[name]));
    for (const [what, change] of JSON_CHANGES) {
      const folder = await make(name, (path) => Deno.writeTextFile(path, textOf(change(value))));
      for (const ask of bodies(folder)) yield { told: `${name} has ${what}, ${ask.path}`, ...ask };
    }
  }
}

/** Times of GET /livez, asked again and again until it is disposed. */
class Pulse implements AsyncDisposable {
  readonly times: number[] = [];
  #going = true;
  readonly #done: Promise<void>;

  constructor(worker: Worker) {
    this.#done = (async () => {
      while (this.#going) {
        const start = performance.now();
        assert.equal((await worker.get("/livez")).status, 200);
        this.times.push(performance.now() - start);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    this.#done.catch(() => {});
  }

  /** Milliseconds. */
  figures() {
    const sorted = this.times.toSorted((a, b) => a - b);
    const at = (share: number) => Math.round(sorted[Math.floor(share * (sorted.length - 1))]! * 10) / 10;
    return { livez: sorted.length, livez_p50_ms: at(0.5), livez_p99_ms: at(0.99), livez_max_ms: at(1) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#going = false;
    await this.#done;
  }
}

/** The metrics of a job's first steps, as they are sent. */
async function firstMetrics(worker: Worker, id: string): Promise<unknown[]> {
  const metrics: unknown[] = [];
  for await (const { type, data } of worker.events(id, 0)) {
    if (type === "metrics") metrics.push(data);
    if (metrics.length === COMPARED) break;
  }
  return metrics;
}

/** Milliseconds that a job of odd numbers may run. */
const AWHILE = 300;

/** Runs a job that was taken, not to its end where that is far. @returns how it ended */
async function runsAwhile(worker: Worker, path: string, body: unknown): Promise<string> {
  const { id } = (await worker.post(path, body)).body;
  const begun = performance.now();
  while (true) {
    const { status, body: job } = await worker.get(`/train/${id}`);
    assert.equal(status, 200);
    if (["succeeded", "failed", "cancelled"].includes(job.status)) return job.status;
    if (performance.now() - begun > AWHILE) await worker.post(`/train/${id}/cancel`, "");
    assert.ok(performance.now() - begun < 60_000, `the job is ${job.status} after a minute`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function stepOf(worker: Worker, id: string): Promise<number> {
  const { body } = await worker.get(`/train/${id}`);
  assert.equal(body.status, "running", JSON.stringify(body).slice(0, 2000));
  return body.progress.step;
}

/**
 * Sends what is made to do harm to a service that trains.
 *
 * @returns statuses, how long GET /livez took, and by how many steps the job went on
 * @throws where the process or the job does not live, the job's numbers change, or an answer is a 5xx but 503
 */
export async function hostileCalls(cell: string, signal?: AbortSignal): Promise<Record<string, unknown>> {
  await using root = await makeRealRoot();
  await using worker = await Worker.start(root.path);
  const alone = (await worker.post("/train", { ...TRAIN, max_steps: COMPARED + 1 })).body.id;
  const expected = await firstMetrics(worker, alone);
  await Array.fromAsync(worker.events(alone, 0));
  const { id } = (await worker.post("/train", TRAIN)).body;
  const metrics = firstMetrics(worker, id);
  while ((await worker.get(`/train/${id}`)).body.status !== "running") {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const statuses: Record<string, number> = {};
  const taken: Hostile[] = [];
  const begun = await stepOf(worker, id);
  let figures: ReturnType<Pulse["figures"]>;
  let sent = 0;
  {
    await using pulse = new Pulse(worker);
    const calls = cell === "numbers"
      ? hostileNumbers(worker)
      : cell === "templates"
      ? hostileTemplates()
      : hostileFolders(root.path);
    for await (const call of calls) {
      if (signal?.aborted) break;
      const { told, path, body } = call;
      const start = performance.now();
      const { status, body: answer } = await worker.post(path, body).catch((error) => {
        throw new Error(`${told}: no answer: ${error.message}\n${worker.log(20)}`);
      });
      const about = `${told}: ${status} ${JSON.stringify(answer).slice(0, 1000)}`;
      assert.ok(status < 500 || status === 503, `${about}\n${worker.log(20)}`);
      assert.ok(performance.now() - start < 60_000, `${about} took ${performance.now() - start} ms`);
      statuses[status] = (statuses[status] ?? 0) + 1;
      if (status === 202) {
        taken.push(call);
        await worker.post(`/train/${answer.id}/cancel`, "");
      }
      if (++sent % 50 === 0) await stepOf(worker, id);
    }
    figures = pulse.figures();
  }
  const steps = await stepOf(worker, id) - begun;
  assert.ok(steps > 0);
  assert.deepEqual(await metrics, expected);
  assert.equal((await worker.post("/score", SCORE)).status, 200);
  await worker.post(`/train/${id}/cancel`, "");
  const ends: Record<string, number> = {};
  for (const { told, path, body } of taken) {
    if (signal?.aborted) break;
    const end = await runsAwhile(worker, path, body).catch((error) => {
      throw new Error(`${told}: ${error.message}\n${worker.log(20)}`);
    });
    ends[end] = (ends[end] ?? 0) + 1;
  }
  assert.equal((await worker.post("/score", SCORE)).status, 200);
  assert.equal(await worker.end("SIGTERM"), 0, worker.log(20));
  return { sent, statuses, ...figures, steps, ends, livez_target: "p99 50 ms, max 500 ms" };
}

/** See {@link hostileCalls}. */
export const hostile: Soak = {
  proves:
    "Hostile templates, model folders and numbers are refused while the service answers and its job trains on.",
  version: 1,
  cells: ["templates", "folders", "numbers"],
  minutesPerCell: 15,
  run: hostileCalls,
};
