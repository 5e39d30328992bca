/**
 * What `deno task demo` and `deno task test` call first: the npm packages of deno.lock, and a WebGPU device. Where no
 * driver answers it installs Mesa's software Vulkan driver through apt-get if it may, and otherwise ends with one
 * sentence on what to install. A second call finds everything in place and takes under a second.
 */
import { fileURLToPath } from "node:url";
import { gpuEnvironment } from "../src/cli/_gpu_environment.ts";
import { readGpuEnvironment } from "../src/config.ts";

/** Who answered WebGPU's request for a device. */
export type GpuAnswer = { readonly kind: "gpu" | "software"; readonly name: string } | {
  readonly kind: "none";
};

/** How a command ended: its exit code and all it wrote. */
export interface CommandResult {
  readonly code: number;
  readonly output: string;
}

/** The machine, as far as the set-up needs it; tests put a pretended one in its place. */
export interface Host {
  readonly os: typeof Deno.build.os;
  /** Whether this process may write the system's folders itself. */
  readonly isRoot: boolean;
  /** Value of VK_DRIVER_FILES or VK_ICD_FILENAMES, which overrule every installed driver. */
  readonly driverOverride: string | undefined;
  /** Runs a command without a terminal; code 127 where there is none of that name. */
  run(command: readonly string[]): Promise<CommandResult>;
  /** Fetches the npm packages that are missing. */
  installPackages(): Promise<CommandResult>;
  /** Asks in a fresh process. */
  probeGpu(): Promise<GpuAnswer>;
  say(line: string): void;
}

/** The machine is not ready and the set-up may not change that; the message tells the user what to do. */
export class SetupError extends Error {
  override readonly name = "SetupError";
}

/** Debian's names for the Vulkan loader and Mesa's drivers, lavapipe (the software one) among them. */
const DEBIAN_PACKAGES = ["libvulkan1", "mesa-vulkan-drivers"];

/**
 * Makes the machine ready to run the worker.
 *
 * @returns the device that answers
 * @throws {SetupError} where packages or a driver are missing and cannot be installed
 */
export async function setUp(host: Host): Promise<Exclude<GpuAnswer, { kind: "none" }>> {
  const packages = await host.installPackages();
  if (packages.code !== 0) {
    throw new SetupError(`The npm packages could not be fetched: ${lastLines(packages.output)}`);
  }
  let answer = await host.probeGpu();
  if (answer.kind === "none") {
    await installSoftwareDriver(host);
    answer = await host.probeGpu();
  }
  if (answer.kind === "none") throw new SetupError(adviceFor(host));
  host.say(`Device: ${answer.name} (${answer.kind === "gpu" ? "GPU" : "software driver, on the CPU"})`);
  return answer;
}

async function installSoftwareDriver(host: Host): Promise<void> {
  const mayInstall = host.os === "linux" && host.driverOverride === undefined;
  const elevate = host.isRoot ? [] : ["sudo", "-n"];
  if (
    !mayInstall || (await host.run(["apt-get", "--version"])).code !== 0 ||
    (await host.run([...elevate, "true"])).code !== 0
  ) {
    throw new SetupError(adviceFor(host));
  }
  host.say(
    `No GPU driver answers: installing ${
      DEBIAN_PACKAGES.join(" and ")
    } through apt-get, a software driver (SIMPO_DEVICE=software).`,
  );
  // sudo drops the environment, so the variable travels as an argument.
  const aptGet = [
    ...elevate,
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    "-o",
    "DPkg::Lock::Timeout=60",
  ];
  // A failing update (one unreachable source among several) need not stop the install; the install decides.
  const update = await host.run([...aptGet, "update"]);
  const install = await host.run([
    ...aptGet,
    "install",
    "--yes",
    "--no-install-recommends",
    ...DEBIAN_PACKAGES,
  ]);
  if (install.code !== 0) {
    const cause = update.code === 0 ? install.output : `${update.output}\n${install.output}`;
    throw new SetupError(`apt-get could not install ${DEBIAN_PACKAGES.join(" and ")}: ${lastLines(cause)}`);
  }
}

/** One sentence on how to get a device on this machine. */
export function adviceFor({ os, driverOverride }: Pick<Host, "os" | "driverOverride">): string {
  if (driverOverride !== undefined) {
    return `No WebGPU device answers while VK_DRIVER_FILES or VK_ICD_FILENAMES is "${driverOverride}": ` +
      `unset it, or let it name the JSON file of an installed Vulkan driver.`;
  }
  switch (os) {
    case "darwin":
      return "No WebGPU device answers: on macOS Metal should answer by itself, so run this on a Mac " +
        "(or a virtual machine) that has a Metal device.";
    case "windows":
      return "No WebGPU device answers: on Windows Direct3D 12 should answer by itself, so install or update " +
        "the graphics card's driver.";
    default:
      return "No WebGPU device answers: install your graphics card's Vulkan driver, or the software driver " +
        "(SIMPO_DEVICE=software) with " +
        "`sudo apt-get install libvulkan1 mesa-vulkan-drivers` (Debian, Ubuntu), " +
        "`sudo dnf install vulkan-loader mesa-vulkan-drivers` (Fedora) or " +
        "`sudo pacman -S vulkan-icd-loader vulkan-swrast` (Arch), and run this again.";
  }
}

function lastLines(output: string, count = 4): string {
  return output.trim().split("\n").slice(-count).join(" / ");
}

/** The machine this process runs on. */
function thisHost(): Host {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const env = { ...gpuEnvironment(), NO_COLOR: "1" };
  async function run([name, ...args]: readonly string[]): Promise<CommandResult> {
    try {
      const { code, stdout, stderr } = await new Deno.Command(name!, { args, env, cwd: root, stdin: "null" })
        .output();
      const text = new TextDecoder();
      return { code, output: text.decode(stdout) + text.decode(stderr) };
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return { code: 127, output: `${name} was not found.` };
      throw error;
    }
  }
  return {
    os: Deno.build.os,
    isRoot: Deno.uid() === 0,
    driverOverride: readGpuEnvironment().driverFiles.join(":") || undefined,
    run,
    installPackages: () => run([Deno.execPath(), "install", "--quiet"]),
    async probeGpu() {
      const probe = fileURLToPath(new URL("_gpu_probe.ts", import.meta.url));
      const { code, output } = await run([Deno.execPath(), "run", "--no-prompt", "--no-config", probe]);
      // Drivers write warnings of their own around the answer; a driver that crashes answers nothing.
      const line = output.split("\n").find((line) => line.startsWith("{"));
      return code === 0 && line !== undefined ? JSON.parse(line) as GpuAnswer : { kind: "none" };
    },
    say: (line) => console.error(line),
  };
}

if (import.meta.main) {
  try {
    await setUp(thisHost());
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(error.message);
    Deno.exit(1);
  }
}
