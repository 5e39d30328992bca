import assert from "node:assert/strict";
import { plot } from "../../bench/_plot.ts";

const SERIES = {
  name: "growth",
  x: "tokens",
  y: "ms <a token>",
  lines: { one: [[256, 1], [1024, 10], [4096, 100]], two: [[256, 5]] },
} as const;

Deno.test("plot() puts equal ratios at equal distances, and rising values higher", () => {
  const circles = [...plot(SERIES).matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)]
    .map(([, x, y]) => [Number(x), Number(y)] as const);
  assert.equal(circles.length, 4);
  const [first, second, third] = circles as [[number, number], [number, number], [number, number]];
  for (const axis of [0, 1] as const) {
    assert.ok(Math.abs((second[axis] - first[axis]) - (third[axis] - second[axis])) < 0.2);
  }
  assert.ok(first[0] < second[0] && first[1] > second[1]);
});

Deno.test("plot() names its lines and axes, with what XML reserves escaped", () => {
  const svg = plot(SERIES);
  for (const text of [">one<", ">two<", ">tokens<", ">ms &lt;a token><", ">1k<", ">4k<"]) {
    assert.ok(svg.includes(text), text);
  }
  const texts = [...svg.matchAll(/<text x="([-\d.]+)" y="([-\d.]+)" text-anchor="(\w+)"[^>]*>([^<]*)/g)];
  for (const [text, x, y] of texts) {
    assert.ok(Number(x) > 0 && Number(x) < 640 && Number(y) > 0 && Number(y) < 400, text);
  }
  const ticks = texts.filter(([, , , anchor, text]) => anchor === "end" && /^\d/.test(text!));
  assert.deepEqual(ticks.map((tick) => Number(tick[4])), [1, 2, 5, 10, 20, 50, 100]);
});

Deno.test("plot() refuses nothing and what has no logarithm", () => {
  assert.throws(() => plot({ ...SERIES, lines: {} }), RangeError);
  assert.throws(() => plot({ ...SERIES, lines: { one: [[0, 1]] } }), RangeError);
});
