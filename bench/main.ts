/**
 * `deno task bench`: the benchmarks on the device that answers. Prints every figure, then each target beside its figure, and
 * keeps both under bench/results/.
 *
 * - `deno task bench matmul growth` runs some parts; `deno task bench profile` shows where the time of a step goes.
 * - `--quick` takes a few minutes, with fewer and smaller cases, and keeps nothing; `--full` grows further.
 * - `--python <path>` compares with torch, transformers and trl of that Python.
 * - `--readme` writes the README's figures anew from the kept results and runs nothing.
 */
import { parseArgs } from "node:util";
import { meant } from "../src/cli/_arguments.ts";
import { Gpu } from "../src/gpu/mod.ts";
import { benchAblations } from "./ablations.ts";
import { benchAttention } from "./attention.ts";
import { benchCeilings } from "./ceilings.ts";
import { benchGrowth } from "./growth.ts";
import { benchHostWait } from "./host_wait.ts";
import { benchLoading } from "./loading.ts";
import { benchMatmul } from "./matmul.ts";
import { profileSteps } from "./profile.ts";
import { benchPython } from "./python.ts";
import { benchQuantization } from "./quantization.ts";
import { updateReadme } from "./_readme.ts";
import { describe, keep, type PartReport, type Report, rowLine, targetTable } from "./_report.ts";
import { type Findings, SETTINGS, type Settings } from "./_rows.ts";
import { benchScoring } from "./scoring.ts";
import { benchService } from "./service.ts";
import { benchSteps } from "./steps.ts";
import { benchTokens } from "./tokens.ts";

const PARTS: Readonly<Record<string, (gpu: Gpu, settings: Settings) => Promise<Findings>>> = {
  ceilings: benchCeilings,
  matmul: benchMatmul,
  attention: benchAttention,
  steps: benchSteps,
  host_wait: benchHostWait,
  scoring: benchScoring,
  ablations: benchAblations,
  growth: benchGrowth,
  service: benchService,
  python: benchPython,
  loading: benchLoading,
  tokens: benchTokens,
  quantization: benchQuantization,
  profile: profileSteps,
};
/** Parts that say nothing about a target and take long. */
const NOT_QUICK = new Set(["scoring", "loading", "tokens", "quantization", "profile", "python"]);
const RESULTS = new URL("./results/", import.meta.url);

const options = parseOptions();
if (options.readme) {
  await updateReadme(new URL("../README.md", import.meta.url), RESULTS);
  Deno.exit(0);
}
const gpu = await Gpu.open({ device: "auto" });
const device = await describe(gpu);
console.log(`${device.device}\n${device.machine}`);
const command = ["deno task bench", ...options.flags].join(" ");
let report: Report = { ...device, parts: {} };
for (const name of options.parts) {
  console.log(`\n## ${name}\n`);
  const start = performance.now();
  const findings = await PARTS[name]!(gpu, options.settings);
  for (const row of findings.rows) console.log(rowLine(row));
  if (findings.text) console.log(findings.text);
  console.log(`(${((performance.now() - start) / 1000).toFixed(0)} s)`);
  const part: PartReport = { command, date: new Date().toISOString().slice(0, 10), ...findings };
  report = { ...device, parts: { ...report.parts, [name]: part } };
  // after every part: a long run may be cut off
  if (options.settings.extent !== "quick") report = await keep(RESULTS, report);
}
console.log(`\n## Targets\n\n${targetTable(report)}`);
gpu.close();
Deno.exit(0);

function parseOptions() {
  try {
    const { values, positionals } = parseArgs({
      args: Deno.args,
      options: {
        quick: { type: "boolean", default: false },
        full: { type: "boolean", default: false },
        readme: { type: "boolean", default: false },
        python: { type: "string" },
      },
      allowPositionals: true,
    });
    const unknown = positionals.find((name) => !(name in PARTS));
    if (unknown !== undefined) {
      throw new Error(`There is no benchmark ${unknown}.${meant(unknown, Object.keys(PARTS))}`);
    }
    const extent = values.quick ? "quick" : values.full ? "full" : "usual";
    const all = Object.keys(PARTS).filter((name) => extent !== "quick" || !NOT_QUICK.has(name));
    return {
      readme: values.readme,
      // the path of somebody's Python is nobody else's business
      flags: [...extent === "usual" ? [] : [`--${extent}`], ...values.python ? ["--python python"] : []],
      parts: positionals.length > 0 ? positionals : all,
      settings: { ...SETTINGS[extent], python: values.python ?? null },
    };
  } catch (error) {
    const usage = "deno task bench [--quick | --full] [--python PATH] [--readme] [parts]";
    console.error(`${(error as Error).message}\nUsage: ${usage}\nParts: ${Object.keys(PARTS).join(", ")}`);
    Deno.exit(2);
  }
}
