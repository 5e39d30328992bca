/** `main.ts doctor`: which device answers, what it can do, and what is missing where none does. */
import { COMMANDS } from "../commands.ts";
import { type GpuEnvironment, readConfig, readGpuEnvironment } from "../config.ts";
import type { DeviceReport } from "../engine/protocol.ts";
import { DRIVER_FOLDERS, LIBRARY_FOLDERS } from "../permissions.ts";
import { VERSION } from "../version.ts";
import { parseCommand } from "./_arguments.ts";
import type { StartEngine } from "./_command.ts";

/** One thing that a device needs. */
export interface Finding {
  readonly name: string;
  /** null: could not be looked at. */
  readonly ok: boolean | null;
  readonly found: string;
  /** What to do where it is not ok. */
  readonly remedy?: string;
}

/** What `--json` prints. */
export interface DoctorReport {
  /** The worker's. */
  readonly version: string;
  readonly device: DeviceReport | null;
  /** Why no device answers. */
  readonly error: string | null;
  /** Whether `serve` takes this device with the settings as they are. */
  readonly serve: { readonly ok: boolean; readonly remedy?: string };
  readonly findings: readonly Finding[];
}

/**
 * Says which device answers and what is missing.
 *
 * @param args `[--json]`
 * @returns the exit code: 0 where a device answers, 1 where none does
 */
export async function doctor(args: readonly string[], startEngine: StartEngine): Promise<number> {
  const parsed = parseCommand("doctor", COMMANDS.doctor, args);
  if (parsed === null) return 0;
  const { device: choice } = readConfig();
  let device: DeviceReport | null = null;
  let error: string | null = null;
  try {
    const engine = await startEngine({ device: choice, allowSoftware: true, leaveThread: true });
    device = await engine.call("device", null);
    await engine.stop();
  } catch (caught) {
    error = caught instanceof Error ? caught.message : String(caught);
  }
  const refused = device?.kind === "software" && choice !== "software";
  const report: DoctorReport = {
    version: VERSION,
    device,
    error,
    serve: refused
      ? {
        ok: false,
        remedy:
          "No GPU answers: serve, train and score run on the software driver only with SIMPO_DEVICE=software. For a GPU see below.",
      }
      : { ok: device !== null },
    findings: await examine(readGpuEnvironment()),
  };
  console.log(parsed.values.json ? JSON.stringify(report, null, 2) : describe(report));
  return device === null ? 1 : 0;
}

/** Looks at what a Vulkan device needs on Linux, in containers above all. */
export async function examine(environment: GpuEnvironment): Promise<Finding[]> {
  const drivers = (await Promise.all(DRIVER_FOLDERS.map(listFolder))).flat();
  const passedIn = environment.nvidiaDevices !== null &&
    !["void", "none"].includes(environment.nvidiaDevices);
  const nvidia = passedIn || await isThere("/dev/nvidiactl") === true;
  return [
    await library("Vulkan loader", "libvulkan.so.1", "Install the package libvulkan1."),
    await driverFiles(environment, drivers),
    ...nvidia ? await nvidiaFindings(environment, drivers) : [{
      name: "NVIDIA GPU",
      ok: null,
      found: "no sign of one that is passed into this machine",
      remedy: "In a container start it with the GPU passed in (--gpus all, or the host's setting for it).",
    }],
    environment.runtimeDirectory === null
      ? {
        name: "XDG_RUNTIME_DIR",
        ok: false,
        found: "not set",
        remedy: "Harmless; set it to a folder of your own to keep the driver from saying so.",
      }
      : { name: "XDG_RUNTIME_DIR", ok: true, found: environment.runtimeDirectory },
  ];
}

async function driverFiles({ driverFiles }: GpuEnvironment, installed: readonly string[]): Promise<Finding> {
  const name = "Vulkan drivers (ICD files)";
  const missing: string[] = [];
  for (const file of driverFiles) if (await isThere(file) === false) missing.push(file);
  if (missing.length > 0) {
    return {
      name,
      ok: false,
      found: `VK_DRIVER_FILES names ${missing.join(", ")}, which is not there`,
      remedy: "Name the driver's own ICD file, or unset the variable.",
    };
  }
  if (driverFiles.length > 0) {
    return { name, ok: true, found: `by VK_DRIVER_FILES: ${driverFiles.join(", ")}` };
  }
  if (installed.length > 0) return { name, ok: true, found: installed.join(", ") };
  return {
    name,
    ok: false,
    found: `none in ${DRIVER_FOLDERS.join(", ")}`,
    remedy:
      "For a GPU install its driver's Vulkan part, or let VK_DRIVER_FILES name the ICD file that the host mounts; " +
      "without a GPU install mesa-vulkan-drivers and set SIMPO_DEVICE=software.",
  };
}

async function nvidiaFindings(environment: GpuEnvironment, drivers: readonly string[]): Promise<Finding[]> {
  const capabilities = environment.nvidiaCapabilities;
  const parts = (capabilities ?? "").split(",").map((part) => part.trim());
  const file = [...drivers, ...environment.driverFiles].find((path) => path.includes("nvidia"));
  return [
    {
      name: "NVIDIA_DRIVER_CAPABILITIES",
      ok: parts.includes("all") || parts.includes("graphics"),
      found: capabilities ?? "not set",
      remedy: "Set NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics: Vulkan is part of graphics.",
    },
    {
      name: "NVIDIA's Vulkan driver",
      ok: file !== undefined,
      found: file ?? "no ICD file of NVIDIA's",
      remedy: "Let the host mount nvidia_icd.json, or write one and let VK_DRIVER_FILES name it.",
    },
    await library("libEGL", "libEGL.so.1", "Install the package libegl1."),
    await library("libXext", "libXext.so.6", "Install the package libxext6."),
  ];
}

async function library(name: string, file: string, remedy: string): Promise<Finding> {
  for (const folder of LIBRARY_FOLDERS) {
    const there = await isThere(`${folder}/${file}`);
    if (there === null) return { name, ok: null, found: `no permission to look into ${folder}` };
    if (there) return { name, ok: true, found: `${folder}/${file}` };
  }
  return { name, ok: false, found: `no ${file} in ${LIBRARY_FOLDERS.join(", ")}`, remedy };
}

/** null: this process may not look. */
async function isThere(path: string): Promise<boolean | null> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory ? false : null;
  }
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => `${folder}/${name}`)).sort();
  } catch {
    return [];
  }
}

function describe({ version, device, error, serve, findings }: DoctorReport): string {
  const lines = [...serve.remedy === undefined ? [] : [serve.remedy, ""], `simpo-worker ${version}`];
  if (device === null) lines.push(`No device answers: ${error}`);
  else {
    lines.push(
      `Device: ${device.description} (${device.kind}, ${device.vendor} ${device.architecture})`,
      `Subgroups: ${yesNo(device.subgroups)}   f16: ${yesNo(device.f16)}   matmul: ${device.matmul}`,
      `Features: ${device.features.join(", ") || "none"}`,
      "Limits:",
      ...Object.entries(device.limits).map(([name, value]) => `  ${name}: ${value}`),
    );
  }
  lines.push("");
  for (const { name, ok, found, remedy } of findings) {
    lines.push(`[${ok === null ? "?" : ok ? "ok" : "missing"}] ${name}: ${found}`);
    if (ok !== true && remedy !== undefined) lines.push(`    ${remedy}`);
  }
  return lines.join("\n");
}

function yesNo(value: boolean): string {
  return value ? "yes" : "no";
}
