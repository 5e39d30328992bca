/** What a thread that reads texts does with those that never end or take too much, and what others notice of it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { CallName, CallOptions, Calls, Engine, ScoreRequest } from "../../src/engine/protocol.ts";
import { TextEngine } from "../../src/text/engine.ts";
import { TextThread } from "../../src/text/thread.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const folder = await Deno.makeTempDir({ prefix: "simpo-" });
Deno.test.afterAll(() => Deno.remove(folder, { recursive: true }));
const model = await writeTinyModel(join(folder, "model"));

/** A device that takes down what it is asked. */
class Device implements Engine {
  readonly trainingSlots = 1;
  readonly asked: Calls[CallName]["request"][] = [];

  call<Name extends CallName>(
    name: Name,
    request: Calls[Name]["request"],
    _options?: CallOptions<Name>,
  ): Promise<Calls[Name]["result"]> {
    if (name !== "load") this.asked.push(request);
    return Promise.resolve(null as Calls[Name]["result"]);
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}

/** Gives `work` an engine whose thread has small bounds. */
async function withEngine(work: (engine: TextEngine, device: Device) => Promise<void>): Promise<void> {
  const device = new Device();
  const thread = new TextThread({ seconds: 1.5, heapMb: 100 });
  try {
    await work(new TextEngine(device, thread), device);
  } finally {
    thread.stop(new Error("The test is over."));
  }
}

function request(fields: Partial<ScoreRequest> = {}): ScoreRequest {
  const items = [{
    prompt: [{ role: "user", content: "the" }],
    candidates: [[{ role: "assistant", content: "an" }]],
  }];
  return { model, adapter: null, quantization: null, items, beta: 2, token_logprobs: false, ...fields };
}

const PLAIN = request({ items: [{ prompt: "the", candidates: [" an"] }] });

/** A model whose tokenizer.json is changed. */
async function changed(name: string, change: (json: Record<string, unknown>) => void): Promise<string> {
  const own = await writeTinyModel(join(folder, name));
  const path = join(own, "tokenizer.json");
  const json = JSON.parse(await Deno.readTextFile(path));
  change(json);
  await Deno.writeTextFile(path, JSON.stringify(json));
  return own;
}

const CATASTROPHIC = `${"a".repeat(40)}!`;
const split = (Regex: string) => (json: Record<string, unknown>) => {
  json["pre_tokenizer"] = { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false };
};
const replace = (Regex: string) => (json: Record<string, unknown>) => {
  json["normalizer"] = { type: "Replace", pattern: { Regex }, content: "b" };
};

const PATTERNS: [string, (json: Record<string, unknown>) => void][] = [
  ["a Split of nested repeats", split("(a+)+$")],
  ["a Replace of alternatives that are one", replace("(a|a)+$")],
  ["a Split of neighbours that take the same", split("(a*)*(a*)*(a*)*$")],
];

const twice = { type: "Replace", pattern: { String: "a" }, content: "aa" };
PATTERNS.push([
  "a normalizer that makes a text a billion times as long",
  (json) => json["normalizer"] = { type: "Sequence", normalizers: Array(30).fill(twice) },
]);

for (const [name, change] of PATTERNS) {
  Deno.test(`TextEngine refuses a tokenizer with ${name}, and serves others meanwhile and after it`, async () => {
    await withEngine(async (engine, device) => {
      const hostile = await changed(name.replaceAll(" ", "_"), change);
      await engine.call("score", PLAIN);
      const items = [{ prompt: CATASTROPHIC, candidates: [" an"] }];
      const refused = engine.call("score", request({ model: hostile, items }));
      const others = [engine.call("score", PLAIN), engine.call("score", PLAIN)];
      await assert.rejects(refused, {
        name: "InputError",
        status: 422,
        field: "tokenizer.json",
        message: /took more than 1.5 s or more than 100 MB/,
      });
      await Promise.all(others);
      assert.equal(device.asked.length, 3);
    });
  });
}

/** What asks JavaScript at once for more than it gives. */
const EXCESSIVE: [string, (json: Record<string, unknown>) => void, RegExp][] = [
  [
    "a replacement by which a text is longer than any",
    (json) => json["normalizer"] = { type: "Replace", pattern: { String: "a" }, content: "b".repeat(2e6) },
    /^Tokenising a text by tokenizer.json's rules is too much: Invalid string length\.$/,
  ],
];

for (const [name, change, message] of EXCESSIVE) {
  Deno.test(`TextEngine refuses a tokenizer with ${name}`, async () => {
    await withEngine(async (engine) => {
      const hostile = await changed(name.replaceAll(" ", "_"), change);
      const items = [{ prompt: "a".repeat(400), candidates: [" an"] }];
      await engine.call("score", PLAIN);
      const refused = engine.call("score", request({ model: hostile, items }));
      await assert.rejects(refused, { name: "InputError", status: 422, field: "tokenizer.json", message });
    });
  });
}

/** A text of a million characters as `ns.s`, a list of so many of it as `ns.l`. */
const large =
  "{% set ns = namespace(s='x', l=[]) %}{% for i in range(20) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}" +
  "{% set ns.l = [ns.s] %}{% for i in range(15) %}{% set ns.l = ns.l + ns.l %}{% endfor %}";

const TEMPLATES: [string, string][] = [
  ["doubles a text and a list, and prints it", `${large}{{ ns.l }}`],
  ["joins them", `${large}{{ ns.l | join }}`],
  ["writes them as JSON", `${large}{{ ns.l | tojson }}`],
  ["replaces every character by all of them", `${large}{{ ns.s.replace('x', ns.s) }}`],
];

for (const [name, chat_template] of TEMPLATES) {
  Deno.test(`TextEngine refuses a template that ${name} twice, and serves others`, async () => {
    await withEngine(async (engine, device) => {
      const hostile = request({ chat_template });
      const others = () => Promise.all([engine.call("score", PLAIN), engine.call("score", PLAIN)]);
      const [refused] = await Promise.allSettled([engine.call("score", hostile), others()]);
      assert.equal(refused.status, "rejected");
      assert.equal(refused.reason.status, 422, refused.reason.stack);
      await assert.rejects(engine.call("score", hostile), { name: "InputError", status: 422 });
      await others();
      assert.equal(device.asked.length, 4);
    });
  });
}

Deno.test("TextEngine ends waiting calls with 503 when it stops", async () => {
  await withEngine(async (engine) => {
    const waiting = engine.call("score", PLAIN);
    await engine.stop();
    await assert.rejects(waiting, { name: "InputError", status: 503 });
    await assert.rejects(engine.call("score", PLAIN), { name: "InputError", status: 503 });
  });
});

Deno.test("TextEngine leaves a call that its caller gives up, and a later one is served", async () => {
  await withEngine(async (engine, device) => {
    const leaving = new AbortController();
    const gone = new Error("gone");
    const items = Array.from({ length: 5000 }, () => PLAIN.items[0]!);
    const given = engine.call("score", request({ items }), { signal: leaving.signal });
    leaving.abort(gone);
    await assert.rejects(given, gone);
    await engine.call("score", PLAIN);
    assert.equal(device.asked.length, 1);
  });
});

Deno.test("TextEngine serves others beside a step that takes long, before that ends", async () => {
  const device = new Device();
  const thread = new TextThread({ seconds: 20, patience: 0.3 });
  try {
    const engine = new TextEngine(device, thread);
    const hostile = await changed("long", split("(a+)+$"));
    await engine.call("score", PLAIN);
    const stop = new AbortController();
    const items = [{ prompt: CATASTROPHIC, candidates: [" an"] }];
    let over = false;
    const long = engine.call("score", request({ model: hostile, items }), { signal: stop.signal })
      .catch(() => over = true);
    await Promise.all([engine.call("score", PLAIN), engine.call("score", PLAIN)]); // they come before it is known
    await engine.call("score", PLAIN); // and after
    const gone = new AbortController();
    const left = engine.call("score", PLAIN, { signal: gone.signal });
    gone.abort();
    await assert.rejects(left, { name: "AbortError" });
    assert.equal(over, false);
    stop.abort();
    await long;
    assert.equal(device.asked.length, 4);
  } finally {
    thread.stop(new Error("The test is over."));
  }
});
