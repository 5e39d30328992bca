import assert from "node:assert/strict";
import { SharedWork } from "../src/shared_work.ts";
import { gate } from "./helpers/service.ts";

Deno.test("SharedWork.run() does the work once for all who wait, and again for who comes later", async () => {
  const work = new SharedWork<number>();
  let runs = 0;
  const go = gate();
  const ask = (signal?: AbortSignal) =>
    work.run("a", async () => {
      await go.opened;
      return ++runs;
    }, signal);
  const leaving = new AbortController();
  const [stays, goes] = [ask(), ask(leaving.signal)];
  leaving.abort(new Error("gone"));
  await assert.rejects(goes, /gone/);
  go.open();
  assert.deepEqual([await stays, await ask()], [1, 2]);
  await assert.rejects(ask(leaving.signal), /gone/);
  assert.equal(runs, 2);
});

Deno.test("SharedWork.run() ends what nobody waits for, and begins anew after it has ended", async () => {
  const work = new SharedWork<string>();
  const order: string[] = [];
  const put = gate();
  const leaving = new AbortController();
  const first = work.run("a", async (stop) => {
    await new Promise((resolve) => stop.addEventListener("abort", resolve));
    await put.opened;
    order.push("first has put its things away");
    throw stop.reason;
  }, leaving.signal);
  await Promise.resolve();
  leaving.abort(new Error("gone"));
  await assert.rejects(first, /gone/);
  const second = work.run("a", (stop) => {
    order.push("second begins");
    return Promise.resolve(String(stop.aborted));
  });
  put.open();
  assert.equal(await second, "false");
  assert.deepEqual(order, ["first has put its things away", "second begins"]);
});
