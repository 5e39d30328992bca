import assert from "node:assert/strict";
import { type FromWorker, Wish } from "../../src/engine/_messages.ts";
import { type Handler, type Handlers, WorkerHost } from "../../src/engine/worker_host.ts";
import { InputError } from "../../src/errors.ts";
import { fromPlainError } from "../../src/plain_error.ts";

/** A host that does `memory` as a test wants, and what it posts. */
function hostOf(memory: Handler<"memory">) {
  const posted: FromWorker[] = [];
  const host = new WorkerHost({ memory } as Handlers, (message) => posted.push(message));
  const ask = (id: number, wish = new Wish()) => {
    const done = host.receive({ type: "call", id, name: "memory", request: null, wish: wish.buffer });
    return { wish, done };
  };
  return { host, posted, ask };
}

const report = { bytes: 1, peak_bytes: 2, free_bytes: null, by_name: {} };

Deno.test("WorkerHost answers a call by its id, with the handler of its name", async () => {
  const { posted, ask } = hostOf(() => Promise.resolve(report));
  await Promise.all([ask(7).done, ask(8).done]);
  assert.deepEqual(posted, [7, 8].map((id) => ({ type: "done", id, value: report })));
});

Deno.test("WorkerHost interrupts the call that is meant, and no other", async () => {
  const waiting: string[] = [];
  const { host, posted, ask } = hostOf((_host, _request, call) =>
    new Promise((resolve) => {
      call.interrupted.signal.addEventListener("abort", () => {
        waiting.push(`${call.id} ${call.wish}`);
        resolve(report);
      });
    })
  );
  const [first, second] = [ask(1), ask(2)];
  second.wish.interrupt("stop");
  await host.receive({ type: "interrupt", id: 2 });
  await second.done;
  assert.deepEqual([waiting, posted.length], [["2 stop"], 1]);
  first.wish.interrupt("cancel");
  await host.receive({ type: "interrupt", id: 1 });
  await first.done;
  assert.deepEqual(waiting, ["2 stop", "1 cancel"]);
  await host.receive({ type: "interrupt", id: 2 }); // it has ended
});

Deno.test("WorkerHost hands on what a handler refuses, and ends the reading of weights for a call that is to end", async () => {
  const { posted, ask } = hostOf((_host, _request, call) => {
    call.onLoad({ bytes: 0, total_bytes: 9 });
    if (call.wish !== "continue") throw new Error("not reached");
    throw new InputError("No.", { path: ["model"] });
  });
  await ask(1).done;
  const ended = new Wish();
  ended.interrupt("cancel");
  await ask(2, ended).done;
  const errors = posted.flatMap((message) =>
    message.type === "failed" ? [fromPlainError(message.error)] : []
  );
  assert.deepEqual(errors.map(({ message }) => message), ["No.", "This work is to end."]);
  assert(errors[0] instanceof InputError);
  assert.deepEqual(posted[0], { type: "loading", id: 1, progress: { bytes: 0, total_bytes: 9 } });
});
