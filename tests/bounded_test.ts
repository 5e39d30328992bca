import assert from "node:assert/strict";
import { boundedJson, boundedText, boundedValue } from "../src/bounded.ts";

Deno.test("boundedText() keeps what is short, cuts no character in half, and cut again tells the first length", () => {
  assert.equal(boundedText("abc", 3), "abc");
  const cut = boundedText("ab😀".repeat(1000), 3);
  assert.equal(cut, "ab… (4000 characters)");
  assert.equal(boundedText(cut, 1), "a… (4000 characters)");
});

Deno.test("boundedValue() gives a short value as it is and of a long one its beginning, numbers past JSON's too", () => {
  assert.deepEqual(boundedValue({ a: [1, null] }, 100), { a: [1, null] });
  assert.equal(boundedValue(12345678901234567890n, 100), "12345678901234567890");
  assert.equal(boundedValue(undefined, 100), undefined);
  assert.equal(boundedValue([1, 2, 3], 4), "[1,2… (7 characters)");
  assert.equal(boundedValue("\u0001".repeat(100), 40), `${"\u0001".repeat(5)}… (100 characters)`);
});

Deno.test("boundedJson() keeps a value's form and cuts the texts and lists in it", () => {
  const value = {
    name: "n",
    lora: { r: 4, modules: Array.from({ length: 500 }, (_, i) => `m${i}`) },
    template: "t".repeat(5000),
  };
  assert.equal(boundedJson(value, 10_000), value);
  const cut = boundedJson(value, 2500);
  assert.deepEqual([cut.name, cut.lora.r, cut.lora.modules.length], ["n", 4, 51]);
  assert.equal(cut.lora.modules.at(-1), "… (500 in all)");
  assert.match(cut.template, /^t{1000}… \(5000 characters\)$/);
});
