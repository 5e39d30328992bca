/**
 * `deno task bench`: every benchmark on the device that answers, as a table and as bench/results/<device>.{json,md}.
 * `deno task bench matmul steps` runs some of them; `deno task bench profile` shows where the time of a step goes.
 */
import { Gpu } from "../src/gpu/mod.ts";
import { type BenchRow, holds } from "./_rows.ts";
import { benchLoading } from "./loading.ts";
import { benchMatmul } from "./matmul.ts";
import { profileSteps } from "./profile.ts";
import { benchService } from "./service.ts";
import { benchSteps } from "./steps.ts";

const BENCHMARKS: Readonly<Record<string, (gpu: Gpu) => Promise<BenchRow[]>>> = {
  matmul: benchMatmul,
  steps: benchSteps,
  loading: benchLoading,
  service: (gpu) => benchService(gpu.software ? "software" : "gpu"),
};

const HEADER = "| what | value | unit | target | | how |\n|---|---:|---|---|---|---|";

function line(row: BenchRow): string {
  const { name, value, unit, target, detail } = row;
  const wanted = !target
    ? ""
    : "at_least" in target
    ? `at least ${target.at_least}`
    : `at most ${target.at_most}`;
  const held = holds(row);
  return `| ${name} | ${value.toPrecision(4)} | ${unit} | ${wanted} | ${
    held === null ? "" : held ? "holds" : "misses"
  } | ${detail} |`;
}

if (Deno.args.join() === "profile") {
  console.log(await profileSteps(await Gpu.open({ device: "auto" }), { rounds: 3, extent: "usual" }));
  Deno.exit(0);
}
const names = Deno.args.length > 0 ? Deno.args : Object.keys(BENCHMARKS);
const unknown = names.find((name) => !(name in BENCHMARKS));
if (unknown !== undefined) {
  console.error(`There is no benchmark ${unknown}; there are ${Object.keys(BENCHMARKS).join(", ")}.`);
  Deno.exit(2);
}
const gpu = await Gpu.open({ device: "auto" });
const device = gpu.adapterInfo.description || gpu.adapterInfo.device;
const command = ["deno task bench", ...Deno.args].join(" ");
console.log(`${device}, Deno ${Deno.version.deno}, matmul design ${gpu.matmul}\n\n${HEADER}`);
const rows: BenchRow[] = [];
for (const name of names) {
  for (const row of await BENCHMARKS[name]!(gpu)) {
    rows.push(row);
    console.log(line(row));
  }
}
if (Deno.args.length === 0) {
  const folder = new URL("./results/", import.meta.url);
  await Deno.mkdir(folder, { recursive: true });
  const file = device.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const machine =
    `${navigator.hardwareConcurrency} CPU cores, ${Deno.build.os} ${Deno.build.arch}, Deno ${Deno.version.deno}`;
  const date = new Date().toISOString().slice(0, 10);
  const report = { device, machine, matmul: gpu.matmul, command, date, rows };
  await Deno.writeTextFile(new URL(`${file}.json`, folder), JSON.stringify(report, null, 2) + "\n");
  const text =
    `# ${device}\n\n${machine}; matmul design ${gpu.matmul}; ${date}; \`${command}\`\n\n${HEADER}\n${
      rows.map(line).join("\n")
    }\n`;
  await Deno.writeTextFile(new URL(`${file}.md`, folder), text);
}
gpu.close();
Deno.exit(0);
