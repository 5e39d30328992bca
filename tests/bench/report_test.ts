import assert from "node:assert/strict";
import { keep, type Report, targetTable } from "../../bench/_report.ts";
import { reach } from "../../bench/_rows.ts";
import { TARGETS } from "../../bench/_targets.ts";

function reportOf(software: boolean, ...rows: Report["parts"][string]["rows"]): Report {
  const part = { command: "deno task bench", date: "2026-01-02", rows };
  return { device: "Some Device (1)", machine: "2 cores", software, parts: { part } };
}

Deno.test("targetTable() has a line for every target, in order, with figure and verdict", () => {
  const lines = targetTable(
    reportOf(true, reach("skeleton", 0.8, ""), reach("pairs, time", 0.6, "")),
  ).split("\n").slice(2);
  assert.deepEqual(
    lines.map((line) => line.split(" | ")[0]!.slice(2)),
    Object.values(TARGETS).map(({ what }) => what),
  );
  const of = (id: string) => lines[Object.keys(TARGETS).indexOf(id)]!.split(" | ").slice(1).join(" | ");
  assert.equal(of("skeleton"), "at least 0.75 of the matmul's rate | 0.8 | holds |");
  assert.equal(of("pairs, time"), "at most 0.55 of the time | 0.6 | misses |");
  assert.equal(of("attention 64"), "at least 0.4 of the FMA ceiling |  | no GPU |");
  assert.equal(of("first score"), "at most 1 s |  | not run |");
  assert.equal(of("first score over Python"), "at most 0.1 of the time |  | not run: needs --python |");
});

Deno.test("targetTable() on a GPU leaves out what is the software driver's", () => {
  assert.match(targetTable(reportOf(false)), /without subgroups.*\| software driver only \|/);
});

Deno.test("reach() refuses a target that there is not", () => {
  assert.throws(() => reach("speed of light", 1, ""), RangeError);
});

Deno.test("keep() leaves the results of other parts, and writes a plot of every series", async () => {
  const folder = await Deno.makeTempDir();
  const url = new URL(`file://${folder}/results/`);
  try {
    await keep(url, reportOf(true, reach("skeleton", 0.8, "")));
    const series = [{ name: "s", x: "tokens", y: "ms", lines: { one: [[1, 2], [2, 3]] as const } }];
    const other = { command: "deno task bench other", date: "2026-01-03", rows: [], series };
    const kept = await keep(url, { ...reportOf(true), parts: { other } });
    assert.deepEqual(Object.keys(kept.parts), ["part", "other"]);
    assert.deepEqual(JSON.parse(await Deno.readTextFile(new URL("some-device-1.json", url))), kept);
    const text = await Deno.readTextFile(new URL("some-device-1.md", url));
    assert.match(text, /\| at least 0\.75 of the matmul's rate \| 0\.8 \| holds \|/);
    assert.match(text, /!\[ms by tokens\]\(some-device-1-s\.svg\)/);
    assert.match(await Deno.readTextFile(new URL("some-device-1-s.svg", url)), /^<svg /);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
