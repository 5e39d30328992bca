import assert from "node:assert/strict";
import { Scheduler } from "../../src/engine/scheduler.ts";
import { gate } from "../helpers/service.ts";

/** A request of some steps that says when it takes them. */
async function* steps(name: string, count: number, taken: string[]): AsyncGenerator<void> {
  for (let i = 0; i < count; i++) {
    taken.push(`${name}${i}`);
    yield await Promise.resolve();
  }
}

/** Gives the scheduler turns of the event loop until it is idle, or many where it is not. */
async function settled(scheduler: Scheduler): Promise<void> {
  for (let i = 0; i < 50 && scheduler.busy; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("turn() lets newcomers prepare before anyone goes on, in the order in which they came", async () => {
  let now = 0;
  const scheduler = new Scheduler({ now: () => now });
  const taken: string[] = [];
  async function* slow(name: string, count: number): AsyncGenerator<void> {
    for await (const step of steps(name, count, taken)) {
      now += 4;
      yield step;
    }
  }
  scheduler.hold();
  scheduler.add(1, slow("a", 3));
  scheduler.add(2, slow("b", 4));
  now += 10;
  await scheduler.turn();
  assert.deepEqual(taken.splice(0), ["a0", "b0", "a1", "b1"]);
  scheduler.add(3, slow("c", 2));
  now += 10;
  await scheduler.turn();
  assert.deepEqual(taken.splice(0), ["c0", "a2", "b2", "c1"]);
  scheduler.release();
  await settled(scheduler);
  assert.deepEqual(taken, ["b3"]);
});

Deno.test("add() serves requests until none is left, but while a run holds the device", async () => {
  const scheduler = new Scheduler();
  const taken: string[] = [];
  assert.equal(scheduler.busy, false);
  scheduler.add(1, steps("a", 3, taken));
  scheduler.add(2, steps("b", 1, taken));
  assert.equal(scheduler.busy, true);
  await settled(scheduler);
  assert.deepEqual(taken.splice(0), ["a0", "b0", "a1", "a2"]);
  assert.deepEqual([scheduler.busy, scheduler.has(1)], [false, false]);
  scheduler.hold();
  assert.equal(scheduler.busy, true);
  scheduler.add(3, steps("c", 1, taken));
  await settled(scheduler);
  assert.deepEqual(taken, []);
  scheduler.release();
  await settled(scheduler);
  assert.deepEqual([taken, scheduler.busy], [["c0"], false]);
});

Deno.test("turn() takes no step beside another turn", async () => {
  const scheduler = new Scheduler();
  const taken: string[] = [];
  const { opened, open } = gate();
  scheduler.hold();
  scheduler.add(
    1,
    async function* () {
      await opened;
      yield;
    }(),
  );
  const first = scheduler.turn();
  await new Promise((resolve) => setTimeout(resolve, 0));
  scheduler.add(2, steps("b", 1, taken));
  await scheduler.turn();
  assert.deepEqual(taken, []);
  open();
  await first;
  await scheduler.turn();
  assert.deepEqual(taken, ["b0"]);
});

Deno.test("remove() drops a request at once, prepared or not", async () => {
  const scheduler = new Scheduler({ now: () => 0 });
  const taken: string[] = [];
  scheduler.hold();
  scheduler.add(1, steps("a", 3, taken));
  scheduler.add(2, steps("b", 3, taken));
  scheduler.remove(2);
  await scheduler.turn();
  scheduler.remove(1);
  await scheduler.turn();
  assert.deepEqual(taken, ["a0", "a1"]);
});

/** A device whose time passes only by what is run on it. */
function sharedDevice(trainShare: number) {
  let now = 0;
  const ran: string[] = [];
  const scheduler = new Scheduler({ trainShare, now: () => now, settle: () => ran.push("settle") });
  async function* request(name: string, batches: number, ms: number): AsyncGenerator<void> {
    yield await Promise.resolve();
    for (let i = 0; i < batches;) {
      if (scheduler.takeBatch() !== null) {
        now += ms;
        ran.push(name);
        i++;
      }
      yield;
    }
  }
  /** Runs micro-batches with a turn after each. @returns what ran between them */
  const train = async (microBatches: number, ms: number) => {
    const turns: string[] = [];
    for (let i = 0; i < microBatches; i++) {
      now += ms;
      await scheduler.turn();
      turns.push(ran.splice(0).filter((name) => name !== "settle").join(""));
    }
    return turns;
  };
  return { scheduler, request, train, ran, now: () => now };
}

Deno.test("turn() gives training its share of the time, whatever waits", async () => {
  for (const share of [0.25, 0.5, 0.8]) {
    const { scheduler, request, train, now } = sharedDevice(share);
    scheduler.hold();
    for (let id = 0; id < 200; id++) scheduler.add(id, request("a", 1000, 10));
    await train(50, 100);
    assert.ok(Math.abs(50 * 100 / now() - share) < 0.03, `${share}: ${50 * 100 / now()}`);
    assert.ok(Math.abs(scheduler.trained! - share) < 0.03, `${share}: ${scheduler.trained}`);
  }
});

Deno.test("turn() runs a batch between every two micro-batches while a request waits, a long one too", async () => {
  const { scheduler, request, train } = sharedDevice(0.5);
  scheduler.hold();
  scheduler.add(1, request("a", 9, 500));
  assert.deepEqual(await train(4, 100), ["a", "a", "a", "a"]);
  const full = sharedDevice(1);
  full.scheduler.hold();
  full.scheduler.add(1, full.request("a", 9, 1));
  full.scheduler.add(2, full.request("b", 9, 1));
  assert.deepEqual(await full.train(4, 100), ["a", "b", "a", "b"]);
});

Deno.test("turn() lets requests take turns where one batch is all that runs", async () => {
  const { scheduler, request, train } = sharedDevice(0.5);
  scheduler.hold();
  for (const [id, name] of [..."abc"].entries()) scheduler.add(id, request(name, 3, 100));
  assert.deepEqual(await train(9, 100), [..."abcabcabc"]);
  assert.equal(scheduler.busy, true);
});

Deno.test("turn() serves until none waits where training gets no share, and ends where training is to end", async () => {
  const { scheduler, request, ran } = sharedDevice(0);
  scheduler.hold();
  scheduler.add(1, request("a", 5, 100));
  await scheduler.turn();
  assert.equal(ran.join(), "settle,a,a,a,a,a");
  scheduler.add(2, request("b", 1e9, 100));
  await scheduler.turn(() => ran.length > 9);
  assert.equal(scheduler.has(2), true);
});

Deno.test("takeBatch() says how long a batch may take: what is left of the requests' share", async () => {
  const { scheduler, train } = sharedDevice(0.5);
  const allowed: (number | null)[] = [];
  scheduler.hold();
  scheduler.add(
    1,
    async function* () {
      for (;;) {
        allowed.push(scheduler.takeBatch());
        yield await Promise.resolve();
        if (allowed.length > 1) return;
      }
    }(),
  );
  await train(1, 70);
  assert.equal(allowed[0], 70);
  scheduler.release();
  assert.equal(scheduler.takeBatch(), Infinity);
});

Deno.test("pause() keeps a request from its turns until what it waits for is there, and others do not wait", async () => {
  const scheduler = new Scheduler();
  const taken: string[] = [];
  let ready = false;
  scheduler.add(
    1,
    async function* () {
      for await (const step of steps("a", 2, taken)) {
        if (!ready) scheduler.pause(1, () => ready);
        yield step;
      }
    }(),
  );
  scheduler.add(2, steps("b", 3, taken));
  await settled(scheduler);
  assert.deepEqual([taken.splice(0), scheduler.has(1), scheduler.busy], [
    ["a0", "b0", "b1", "b2"],
    true,
    false,
  ]);
  ready = true;
  while (scheduler.has(1)) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(taken.splice(0), ["a1"]);
  scheduler.add(3, steps("c", 2, taken));
  scheduler.pause(3, () => false);
  scheduler.remove(3);
  assert.equal(scheduler.has(3), false);
  await new Promise((resolve) => setTimeout(resolve, 30));
});
