import assert from "node:assert/strict";
import { gate } from "../helpers/service.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { itemOf, Lab } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(async () => await lab[Symbol.asyncDispose]());

Deno.test("a call whose items are not taken is scored no further than some of them, and others are served", async () => {
  const items = plainRows(900).map(itemOf);
  const { opened, open } = gate();
  const request = {
    model: lab.model,
    adapter: null,
    quantization: null,
    beta: 2,
    token_logprobs: false,
    items,
  };
  let arrived = 0;
  const call = lab.engine.call("score", request, {
    onItem: () => {
      arrived++;
      return opened;
    },
  });
  while (arrived === 0) await lab.score(items.slice(0, 1));
  for (let i = 0; i < 12; i++) assert.equal((await lab.score(items.slice(i, i + 1))).length, 1);
  assert.ok(arrived >= 256 && arrived < 700, `${arrived}`);
  const before = arrived;
  await lab.score(items.slice(0, 30));
  assert.equal(arrived, before);
  open();
  await call;
  assert.equal(arrived, items.length);
});
