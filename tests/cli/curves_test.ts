import assert from "node:assert/strict";
import fc from "fast-check";
import { drawCurves, niceTicks } from "../../src/cli/_curves.ts";

Deno.test("niceTicks() gives round numbers that enclose the range", () => {
  assert.deepEqual(niceTicks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(niceTicks(0, 47, 4), [0, 20, 40, 60]);
  assert.deepEqual(niceTicks(-0.31, 1.22), [-0.5, 0, 0.5, 1, 1.5]);
});

Deno.test("niceTicks() spreads a range of one value", () => {
  for (const value of [0, 3, -2.5]) {
    const ticks = niceTicks(value, value);
    assert.ok(ticks[0]! < value && value < ticks.at(-1)!, String(ticks));
  }
});

Deno.test("niceTicks() encloses any range with few, rising, evenly spaced numbers", () => {
  const finite = fc.double({ min: -1e6, max: 1e6, noNaN: true });
  fc.assert(fc.property(finite, fc.double({ min: 1e-3, max: 1e6, noNaN: true }), (low, span) => {
    const high = low + span;
    const ticks = niceTicks(low, high);
    const slack = span * 1e-6;
    assert.ok(ticks[0]! <= low + slack && ticks.at(-1)! >= high - slack, `${low} ${high}: ${ticks}`);
    assert.ok(ticks.length >= 3 && ticks.length <= 8, `${low} ${high}: ${ticks}`);
    const gaps = ticks.slice(1).map((tick, index) => tick - ticks[index]!);
    assert.ok(gaps.every((gap) => gap > 0 && Math.abs(gap - gaps[0]!) < gaps[0]! * 1e-3), `${ticks}`);
  }));
});

Deno.test("drawCurves() puts each value at its place between the axes", () => {
  const svg = drawCurves([{
    title: "loss",
    range: [0, 1],
    series: [{ label: "training", points: [[0, 1], [4, 0]] }],
  }]);
  // The panel is 300 wide and 200 high; the steps' axis ends at 4.
  assert.match(svg, /<polyline points="0,0 300,200"/);
});

Deno.test("drawCurves() draws every label once in the legend and escapes it", () => {
  const series = [{ label: "a < b", points: [[1, 0.5], [2, 0.7]] as [number, number][] }];
  const svg = drawCurves([{ title: "x & y", series }, { title: "z", series }]);
  assert.equal(svg.split("a &lt; b").length - 1, 1);
  assert.ok(svg.includes("x &amp; y"));
  assert.ok(!svg.includes("a < b"));
});

Deno.test("drawCurves() leaves out what is not finite, and shows a lone point", () => {
  const svg = drawCurves([{
    title: "t",
    series: [{ label: "s", points: [[1, NaN], [2, 0.5], [3, Infinity]] }],
  }]);
  assert.doesNotMatch(svg, /NaN|Infinity/);
  assert.equal(svg.split("<circle").length - 1, 1);
});

Deno.test("drawCurves() draws empty axes where there are no values", () => {
  assert.match(drawCurves([{ title: "t", series: [] }]), /optimiser step/);
});
