import assert from "node:assert/strict";
import fc from "fast-check";
import { BatchQueue } from "../../src/scoring/queue.ts";

/** A budget that the first group may pass. */
function within(budget: number): (size: number) => boolean {
  let filled = 0;
  return (size) => {
    if (filled > 0 && filled + size > budget) return false;
    filled += size;
    return true;
  };
}

Deno.test("fill() takes a group of each request in turn, whoever's turn it is first", () => {
  const queue = new BatchQueue<number, never>();
  const [a, b, c] = [queue.join([1, 1, 1, 1, 1]), queue.join([1]), queue.join([1, 1])];
  const names = new Map([[a, "a"], [b, "b"], [c, "c"]]);
  const take = (budget: number) =>
    queue.fill(c, within(budget)).map(({ ticket }) => names.get(ticket)).join("");
  assert.equal(take(6), "cabcaa");
  assert.equal(take(2), "ca");
  assert.equal(take(100), "cabcaaaa");
});

Deno.test("fill() passes over a request whose next group does not fit, and never over that group", () => {
  const queue = new BatchQueue<number, never>();
  const [big, small] = [queue.join([5, 6, 1]), queue.join([2, 1])];
  const batch = queue.fill(big, within(10));
  assert.deepEqual(batch, [
    { ticket: big, group: 5 },
    { ticket: small, group: 2 },
    { ticket: small, group: 1 },
  ]);
});

Deno.test("fill() leaves groups in the queue until they are answered", () => {
  const queue = new BatchQueue<number, string>();
  const ticket = queue.join([1, 2]);
  const batch = queue.fill(ticket, within(1));
  assert.deepEqual(queue.fill(ticket, within(1)), batch);
  queue.answer(batch, ["one"]);
  assert.deepEqual(ticket.answers, ["one"]);
  assert.deepEqual(queue.fill(ticket, within(1)), [{ ticket, group: 2 }]);
});

Deno.test("answer() leaves a group without an answer in the queue, and those behind it of its request", () => {
  const queue = new BatchQueue<number, string>();
  const [a, b] = [queue.join([1, 2, 3]), queue.join([4])];
  const batch = queue.fill(a, within(99));
  assert.deepEqual(batch.map(({ group }) => group), [1, 4, 2, 3]);
  queue.answer(batch, ["one", "four", null, "three"]);
  assert.deepEqual([a.answers, b.answers], [["one"], ["four"]]);
  assert.deepEqual(queue.fill(a, within(99)), [{ ticket: a, group: 2 }, { ticket: a, group: 3 }]);
});

Deno.test("fill() takes nothing of a request that has left", () => {
  const queue = new BatchQueue<number, never>();
  const [gone, stays] = [queue.join([1]), queue.join([1])];
  queue.leave(gone);
  assert.equal(queue.size, 1);
  assert.deepEqual(queue.fill(stays, within(9)), [{ ticket: stays, group: 1 }]);
});

Deno.test("BatchQueue answers every group once, in its request's order, and each turn serves its request", () => {
  const requests = fc.array(fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 12 }), { minLength: 1 });
  fc.assert(fc.property(requests, fc.integer({ min: 1, max: 40 }), (sizes, budget) => {
    const queue = new BatchQueue<{ id: string; size: number }, string>();
    const tickets = sizes.map((groups, r) =>
      queue.join(groups.map((size, g) => ({ id: `${r}.${g}`, size })))
    );
    for (let open = tickets; open.length > 0;) {
      open = open.filter((ticket) => ticket.done < ticket.groups.length);
      for (const ticket of open) {
        const before = ticket.done;
        if (before === ticket.groups.length) continue;
        const fits = within(budget);
        const batch = queue.fill(ticket, ({ size }) => fits(size));
        const total = batch.reduce((sum, { group }) => sum + group.size, 0);
        assert.ok(total <= budget || batch.length === 1);
        queue.answer(batch, batch.map(({ group }) => group.id));
        assert.ok(ticket.done > before);
      }
    }
    for (const [r, { answers }] of tickets.entries()) {
      assert.deepEqual(answers, sizes[r]!.map((_, g) => `${r}.${g}`));
    }
  }));
});
