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
  const scheduler = new Scheduler();
  const taken: string[] = [];
  scheduler.hold();
  scheduler.add(1, steps("a", 3, taken));
  scheduler.add(2, steps("b", 4, taken));
  await scheduler.turn();
  assert.deepEqual(taken.splice(0), ["a0", "b0", "a1", "b1"]);
  scheduler.add(3, steps("c", 2, taken));
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
  const scheduler = new Scheduler();
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
