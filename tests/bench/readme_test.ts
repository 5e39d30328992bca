import assert from "node:assert/strict";
import { readReports, withFigures } from "../../bench/_readme.ts";
import type { Report } from "../../bench/_report.ts";

Deno.test("README.md's figures are those of the kept results (deno task bench --readme)", async () => {
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  const reports = await readReports(new URL("../../bench/results/", import.meta.url));
  assert.equal(withFigures(readme, reports), readme);
});

const REPORT: Report = {
  device: "some device",
  machine: "2 cores",
  software: true,
  parts: {
    steps: {
      command: "deno task bench",
      date: "2026-01-02",
      rows: [
        { name: "a", value: 1234.56, unit: "ms", target: { at_most: 2000 }, detail: "" },
        { name: "b", value: 2, unit: "ms", detail: "" },
        { name: "c", value: 0.123456, unit: "MiB", shown: true, detail: "" },
      ],
    },
  },
};

Deno.test("withFigures() shows what has a target or is marked, between its markers", () => {
  const readme =
    "before\n<!-- figures: written by deno task bench --readme -->\nold\n<!-- end of figures -->\nafter\n";
  const table = `some device:

2 cores:

| what | figure     | target              | command                 |
| ---- | ---------- | ------------------- | ----------------------- |
| a    | 1,235 ms   | at most 2000: holds | \`deno task bench steps\` |
| c    | 0.1235 MiB |                     | \`deno task bench steps\` |`;
  const written = withFigures(readme, [REPORT]);
  assert.equal(written, readme.replace("old\n", `\n${table}\n\n`));
  assert.equal(withFigures(written, [REPORT]), written);
  assert.throws(() => withFigures("no markers", [REPORT]), Error);
});
