import assert from "node:assert/strict";
import { Scheduler } from "../../src/engine/scheduler.ts";

/** A request of some steps that says when it takes them. */
async function* steps(name: string, count: number, taken: string[]): AsyncGenerator<void> {
  for (let i = 0; i < count; i++) {
    taken.push(`${name}${i}`);
    yield await Promise.resolve();
  }
}

const idle = () => new Promise((resolve) => setTimeout(resolve, 20));

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
  await idle();
  assert.deepEqual(taken, ["b3"]);
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
