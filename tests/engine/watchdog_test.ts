import assert from "node:assert/strict";
import { join } from "node:path";
import type { EngineOptions } from "../../src/engine/client.ts";
import type { ScoredItem } from "../../src/engine/protocol.ts";
import { Heartbeat } from "../../src/engine/heartbeat.ts";
import { Watchdog } from "../../src/engine/watchdog.ts";
import { DeviceLostError, InputError, Interrupted } from "../../src/errors.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { variant } from "../helpers/tier.ts";
import { plainRows, writeTinyModel } from "../helpers/tiny_model.ts";
import { itemOf, Lab } from "./_lab.ts";

const LIMITS = { javascript: 1, device: 60, compiling: 60, weights: 60, progress: 1.5, impatient: 0.5 };
const ITEMS = plainRows(120).map(itemOf);

function openFaulty(options: Partial<EngineOptions> = {}): Promise<Lab> {
  const spawn = () => new Worker(new URL("./_faulty_worker.ts", import.meta.url), { type: "module" });
  return Lab.open({ spawn, limits: LIMITS, ...options });
}

const lab = await openFaulty();
Deno.test.afterAll(async () => await lab[Symbol.asyncDispose]());

const averageOf = ({ average_logprob }: ScoredItem["results"][number]) => average_logprob!;

/** A model under whose name the Worker has a fault. */
function faulty(lab: Lab, name: string): Promise<string> {
  return writeTinyModel(lab.path(name));
}

function failure(work: Promise<unknown>): Promise<Error> {
  return work.then(() => assert.fail("It has not failed."), (error) => error);
}

for (
  const [name, sentence] of [
    ["endless-loop", /^The engine's thread has not answered for 1\.\d s\. The engine is starting again/],
    ["endless-regex", /^The engine's thread has not answered for 1\.\d s\. The engine is starting again/],
    ["never-done", /^The engine's work has not got on for 1\.\d s\. The engine is starting again/],
    ["uncaught", /^The GPU worker broke: .*test.* The engine is starting again/],
  ] as const
) {
  const test = variant(name === "endless-regex");
  test(`a call that ends in ${name} is refused by 503, and only it: who waits is served by the next Worker`, async () => {
    const model = await faulty(lab, name);
    const alone = await lab.score(ITEMS);
    const seen: ScoredItem[] = [];
    const request = { model: lab.model, adapter: null, quantization: null, beta: 2, token_logprobs: false };
    const waiting = lab.engine.call("score", { ...request, items: ITEMS }, {
      onItem: (item) => {
        seen.push(item);
      },
    });
    const error = await failure(lab.score(ITEMS.slice(0, 1), { model }));
    assert.ok(error instanceof InputError, error.stack);
    assert.deepEqual([error.status, error.problem.retryAfter], [503, 10]);
    assert.match(error.message, sentence);
    assert.match(lab.engine.trouble!, /The engine is starting again\.$/);
    await waiting;
    // Other batches, and prompts that were known: the last digits may differ.
    assert.equal(seen.length, alone.length);
    for (const [i, { best, results }] of alone.entries()) {
      assert.equal(seen[i]!.best, best);
      assertClose(seen[i]!.results.map(averageOf), results.map(averageOf), { rtol: 1e-5 });
    }
    assert.equal(lab.engine.trouble, null);
  });
}

for (const name of ["endless-loop", "endless-loading"]) {
  const what =
    "a job under which the engine is replaced is not charged with it, and goes on from its checkpoint";
  Deno.test(`${what}: ${name}`, async () => {
    const model = await faulty(lab, name);
    const spec = { rows: plainRows(8), max_steps: 8, batch_size: 4, save_steps: 1, max_length: 96 };
    let hung: Promise<Error> | null = null;
    const directory = lab.path(`job-${name}`);
    const lost = await failure(lab.train({
      ...spec,
      directory,
      onEvent: ({ type }) => {
        if (type === "checkpoint") hung ??= failure(lab.score(ITEMS, { model }));
      },
    }));
    assert.ok(lost instanceof DeviceLostError && !lost.charged, lost.stack);
    assert.equal((await hung!).name, "InputError");
    const resumed = await lab.train({ ...spec, directory });
    assert.equal(resumed.step, 8);
    assert.ok(resumed.events.some((event) => event.type === "status" && event.resumed_from > 0));
  });
}

Deno.test("a job that hangs is told that its device was lost by its doing, at once where it is cancelled", async () => {
  await using lab = await openFaulty({ limits: { ...LIMITS, javascript: 60 } });
  const end = new AbortController();
  const job = lab.train({ model: await faulty(lab, "endless-loop"), signal: end.signal });
  setTimeout(() => end.abort(new Interrupted("cancel")), 300);
  const error = await failure(job);
  assert.ok(error instanceof DeviceLostError && error.charged, error.stack);
  assert.equal((await lab.score(ITEMS.slice(0, 1))).length, 1);
});

variant(false)(
  "weights under which the engine breaks three times in a row are refused until their files change",
  async () => {
    const journalFolder = await Deno.makeTempDir({ prefix: "simpo-" });
    try {
      await using lab = await openFaulty({ journalFolder });
      const model = await faulty(lab, "uncaught");
      const score = () => failure(lab.score(ITEMS.slice(0, 1), { model }));
      for (let i = 0; i < 3; i++) assert.match((await score()).message, /starting again/);
      const refused = await score() as InputError;
      assert.match(
        refused.message,
        /^model is not used: the engine broke or hung 3 times in a row while it scored with it\.$/,
      );
      assert.equal(refused.status, 422);
      assert.equal((await lab.score(ITEMS.slice(0, 1))).length, 1, "other weights are used");
      await Deno.writeTextFile(join(model, "notes.txt"), "another version");
      assert.match((await score()).message, /starting again/);
    } finally {
      await Deno.remove(journalFolder, { recursive: true });
    }
  },
);

variant(false)(
  "a thread that waits for the device has its own limit, and so has one that compiles or reads weights",
  async () => {
    for (const name of ["slow-device", "slow-compiling", "slow-weights"]) {
      assert.deepEqual(await lab.score(ITEMS.slice(0, 1), { model: await faulty(lab, name) }), [], name);
    }
    const why = await failure(lab.score(ITEMS.slice(0, 1), { model: await faulty(lab, "slow-javascript") }));
    assert.match(why.message, /has not answered/);
  },
);

Deno.test("an engine that cannot be started again is broken, for those that wait and those that come", async () => {
  const spawned: string[] = ["./_faulty_worker.ts", "./_no_device_worker.ts"];
  let broken: Error | null = null;
  const spawn = () => new Worker(new URL(spawned.shift()!, import.meta.url), { type: "module" });
  await using own = await Lab.open({ spawn, limits: LIMITS, onBroken: (error) => broken = error });
  await failure(own.score(ITEMS.slice(0, 1), { model: await faulty(own, "uncaught") }));
  const late = await failure(own.score(ITEMS));
  assert.match(broken!.message, /^The device could not be opened again: No device\.$/);
  assert.deepEqual(late, broken);
  assert.equal(await failure(own.score(ITEMS)), broken);
});

Deno.test("a Watchdog sees neither a thread that is being loaded nor time that this one slept through as a hang", async () => {
  const heartbeat = new Heartbeat();
  const stuck: string[] = [];
  const limits = { ...LIMITS, javascript: 0.3 };
  using _ = new Watchdog({
    heartbeat,
    limits: () => limits,
    impatient: () => false,
    onStuck: (why) => stuck.push(why),
  });
  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  await wait(500);
  assert.deepEqual(stuck, []);
  heartbeat.beat();
  await wait(60);
  const asleep = performance.now();
  while (performance.now() - asleep < 500);
  await wait(0);
  heartbeat.beat();
  await wait(60);
  assert.deepEqual(stuck, []);
  await wait(600);
  assert.equal(stuck.length, 1);
});
