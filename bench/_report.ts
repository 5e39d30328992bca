/** What `deno task bench` prints and keeps. */
import type { Gpu } from "../src/gpu/mod.ts";
import { type BenchRow, type Findings, holds } from "./_rows.ts";
import { type Bound, TARGETS } from "./_targets.ts";
import { plot } from "./_plot.ts";

/** One part's findings with how they came about. */
export interface PartReport extends Findings {
  readonly command: string;
  readonly date: string;
}

/** All that was found on a device, part by part: bench/results/<device>.json. */
export interface Report {
  readonly device: string;
  /** Driver, machine, versions. */
  readonly machine: string;
  readonly software: boolean;
  readonly parts: Readonly<Record<string, PartReport>>;
}

const ROW_HEADER = "| what | value | unit | target | | how |\n|---|---:|---|---|---|---|";

/** The device in words: name, driver, machine, versions. */
export async function describe(gpu: Gpu): Promise<Pick<Report, "device" | "machine" | "software">> {
  const { description, device } = gpu.adapter.info;
  const parts = [
    `driver ${await driverVersion(gpu)}`,
    `matmul design ${gpu.policy.matmul}`,
    `${navigator.hardwareConcurrency} CPU cores`,
    `${Deno.build.os} ${Deno.build.arch} ${Deno.osRelease()}`,
    `Deno ${Deno.version.deno}`,
  ];
  return { device: description || device, machine: parts.join("; "), software: gpu.software };
}

/** WebGPU does not tell it: asks Debian's packages or NVIDIA's tool. */
async function driverVersion(gpu: Gpu): Promise<string> {
  const [command, ...args] = gpu.software
    ? ["dpkg-query", "--show", "--showformat=Mesa ${Version}", "mesa-vulkan-drivers"]
    : ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"];
  try {
    const { success, stdout } = await new Deno.Command(command!, { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout).trim().split("\n")[0]! : "unknown";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "unknown";
    throw error;
  }
}

/** A figure with four digits. */
export function figure(value: number): string {
  return Number(value.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 4 });
}

/** A row's bound and whether it holds. */
export function verdictOf(row: BenchRow): string {
  return row.target ? `${bound(row.target)}: ${verdict(row)}` : "";
}

function bound(target: Bound | undefined): string {
  if (!target) return "";
  return "at_least" in target ? `at least ${target.at_least}` : `at most ${target.at_most}`;
}

function verdict(row: BenchRow): string {
  const held = holds(row);
  return held === null ? "" : held ? "holds" : "misses";
}

/** A line of the table of all figures. */
export function rowLine(row: BenchRow): string {
  const { name, value, unit, target, detail } = row;
  return `| ${name} | ${figure(value)} | ${unit} | ${bound(target)} | ${verdict(row)} | ${detail} |`;
}

/** Every target beside its figure, a line each. */
export function targetTable(report: Pick<Report, "software" | "parts">): string {
  const rows = Object.values(report.parts).flatMap((part) => part.rows);
  const lines = Object.entries(TARGETS).map(([id, { what, unit, bound: target, on, needs }]) => {
    const row = rows.find(({ reaches }) => reaches === id);
    const elsewhere = on !== undefined && (on === "software") !== report.software;
    const result = row
      ? verdict(row)
      : elsewhere
      ? (report.software ? "no GPU" : "software driver only")
      : needs
      ? `not run: needs ${needs}`
      : "not run";
    return `| ${what} | ${bound(target)} ${unit} | ${row ? figure(row.value) : ""} | ${result} |`;
  });
  return ["| what | target | figure | |", "|---|---|---:|---|", ...lines].join("\n");
}

/** The report as Markdown. @param images paths of its plots by series */
function toMarkdown(report: Report, images: Readonly<Record<string, string>>): string {
  const parts = Object.entries(report.parts).map(([name, { command, date, rows, series = [], text }]) =>
    [
      `## ${name}`,
      `\`${command}\`, ${date}`,
      rows.length > 0 ? [ROW_HEADER, ...rows.map(rowLine)].join("\n") : "",
      text ?? "",
      ...series.map(({ name, x, y }) => `![${y} by ${x}](${images[name]})`),
    ].filter((block) => block !== "").join("\n\n")
  );
  return [`# ${report.device}`, report.machine, "## Targets", targetTable(report), ...parts].join("\n\n") +
    "\n";
}

/** Puts new findings into the device's results, beside those of parts that were not run. */
export async function keep(
  folder: URL,
  { parts, ...device }: Report,
): Promise<Report> {
  await Deno.mkdir(folder, { recursive: true });
  const file = device.device.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const json = new URL(`${file}.json`, folder);
  let earlier: Report["parts"] = {};
  try {
    earlier = (JSON.parse(await Deno.readTextFile(json)) as Report).parts ?? {};
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const report: Report = { ...device, parts: { ...earlier, ...parts } };
  const images: Record<string, string> = {};
  for (const series of Object.values(report.parts).flatMap((part) => part.series ?? [])) {
    images[series.name] = `${file}-${series.name}.svg`;
    await Deno.writeTextFile(new URL(images[series.name]!, folder), plot(series));
  }
  await Deno.writeTextFile(json, JSON.stringify(report, null, 1) + "\n");
  await Deno.writeTextFile(new URL(`${file}.md`, folder), toMarkdown(report, images));
  return report;
}
