/** The one reader of the environment. Everything else is handed its settings. */
import { dirname, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { InputError } from "./errors.ts";

/** Which device may answer: a GPU, Mesa's software Vulkan driver, or whichever is there. */
export type DeviceChoice = "gpu" | "software" | "auto";

/** Least severe level that is written. */
export type LogLevel = "debug" | "info" | "warning" | "error";

/** The worker's settings, defaults filled in. */
export interface Config {
  /** TCP port; 0 lets the system choose a free one. */
  readonly port: number;
  /** Address to listen on; 0.0.0.0 is every one of the machine's. */
  readonly host: string;
  /** Absolute folder that models, data sets and adapters are named relative to and cannot leave. */
  readonly root: string;
  /** Absolute folder of jobs and checkpoints. */
  readonly state: string;
  /** Bearer tokens of which requests must carry one; none, and no {@link tokenFile}: none is asked for. */
  readonly tokens: readonly string[];
  /** Absolute path of a file with more of them, one a line; null: there is none. */
  readonly tokenFile: string | null;
  /** Whether other machines may ask without a token. */
  readonly insecure: boolean;
  /** Names beside this machine's own that requests may be sent to and come from, each with its port where only that is meant. */
  readonly allowedHosts: readonly string[];
  readonly device: DeviceChoice;
  /** Bytes of the device's memory that may be used; null: as much as it has. */
  readonly memoryBytes: number | null;
  /** Bytes of a request body. */
  readonly maxBodyBytes: number;
  /** Bytes of keys and values of repeated prompts that stay on the GPU; 0: none; null: the device decides. */
  readonly promptCacheBytes: number | null;
  /** Bytes of the state folder's disk that are to stay free: below, no job is taken or begun. */
  readonly minFreeBytes: number;
  /** Bytes that all jobs may take before no further one is taken; null: as many as there is room for. */
  readonly quotaBytes: number | null;
  /** Of the device's time that training and scoring both want, what training gets: 0 to 1. */
  readonly trainShare: number;
  /** Requests for scores, and to train, that may wait at one time; more are answered with 429. */
  readonly queue: number;
  readonly logLevel: LogLevel;
  /** Absolute folder of what is downloaded from the hub. */
  readonly cache: string;
  /** The hub, a URL without a slash at its end. */
  readonly hubEndpoint: string;
  /** Hosts beside the hub's own that its files may come from, each with its port where only that one is meant. */
  readonly hubHosts: readonly string[];
  /** What the hub is shown; null: nothing, which is enough for what is public. */
  readonly hubToken: string | null;
}

/** What `doctor` looks at where a driver does not answer. */
export interface GpuEnvironment {
  /** Files that the Vulkan loader is told to take as drivers. */
  readonly driverFiles: readonly string[];
  /** `NVIDIA_DRIVER_CAPABILITIES`, as the container runtime reads it. */
  readonly nvidiaCapabilities: string | null;
  /** `NVIDIA_VISIBLE_DEVICES`: set where a container runtime passes a GPU in. */
  readonly nvidiaDevices: string | null;
  readonly runtimeDirectory: string | null;
}

/** Mesa's own variable: threads of its software driver. The worker sets it where it is not set. */
export const DRIVER_THREADS = "LP_NUM_THREADS";

/**
 * `DENO_WEBGPU_BACKEND` for a process that is to use WebGPU: not OpenGL, which wgpu also takes where Vulkan is missing
 * (docs/software_driver.md).
 */
export const WEBGPU_BACKENDS = "vulkan,metal,dx12";

/** Where values come from: `Deno.env`, or a test's own. */
export interface Environment {
  get(name: string): string | undefined;
}

/** The checkout's folder, the default root. */
export const CHECKOUT = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * Reads the settings.
 *
 * @throws InputError naming the variable, its value and what would be accepted
 *
 * @example Defaults
 * ```ts
 * import assert from "node:assert/strict";
 * import { readConfig } from "./config.ts";
 * const config = readConfig({ get: () => undefined });
 * assert.deepEqual([config.port, config.host], [8080, "127.0.0.1"]);
 * ```
 */
export function readConfig(environment: Environment = Deno.env): Config {
  const root = path(environment, "SIMPO_ROOT") ?? CHECKOUT;
  const state = path(environment, "SIMPO_STATE") ?? join(root, "state");
  return {
    port: wholeNumber(environment, "PORT", 8080, 0, 65535),
    host: host(environment, "HOST", "127.0.0.1"),
    root,
    state,
    tokens: (environment.get("SIMPO_TOKEN") ?? "").split(",").map((text) => text.trim())
      .filter((text) => text !== "").map((text) => checkToken("SIMPO_TOKEN", text)),
    tokenFile: path(environment, "SIMPO_TOKEN_FILE", "a file's path") ?? null,
    insecure: oneOf(environment, "SIMPO_INSECURE", ["0", "1"]) === "1",
    allowedHosts: hosts(environment, "SIMPO_ALLOWED_HOSTS").map((name) => name.toLowerCase()),
    device: oneOf(environment, "SIMPO_DEVICE", ["auto", "gpu", "software"]),
    memoryBytes: gibibytes(environment, "SIMPO_MEMORY"),
    maxBodyBytes: wholeNumber(environment, "SIMPO_MAX_BODY", 32 * 1024 * 1024, 1, 1024 ** 3),
    promptCacheBytes: mebibytes(environment, "SIMPO_PROMPT_CACHE"),
    minFreeBytes: mebibytes(environment, "SIMPO_MIN_FREE") ?? 256 * 2 ** 20,
    quotaBytes: gibibytes(environment, "SIMPO_QUOTA"),
    trainShare: fraction(environment, "SIMPO_TRAIN_SHARE", 0.5),
    queue: wholeNumber(environment, "SIMPO_QUEUE", 512, 1, 1_000_000),
    logLevel: oneOf(environment, "SIMPO_LOG", ["info", "debug", "warning", "error"]),
    cache: path(environment, "SIMPO_CACHE") ?? join(state, "hub"),
    hubEndpoint: url(environment, "HF_ENDPOINT", "https://huggingface.co"),
    hubHosts: hosts(environment, "SIMPO_HOSTS"),
    hubToken: token(environment, "HF_TOKEN"),
  };
}

/** Reads what tells a container's GPU set-up. */
export function readGpuEnvironment(environment: Environment = Deno.env): GpuEnvironment {
  const files = environment.get("VK_DRIVER_FILES") || environment.get("VK_ICD_FILENAMES") || "";
  return {
    driverFiles: files.split(":").filter((file) => file !== ""),
    nvidiaCapabilities: environment.get("NVIDIA_DRIVER_CAPABILITIES") || null,
    nvidiaDevices: environment.get("NVIDIA_VISIBLE_DEVICES") || null,
    runtimeDirectory: environment.get("XDG_RUNTIME_DIR") || null,
  };
}

/**
 * Names of the variables that a reader of the environment asks for, so that a new setting is named by its reader alone.
 *
 * @param read `readConfig` or `readGpuEnvironment`
 */
export function variablesOf(read: (environment: Environment) => unknown): string[] {
  const names: string[] = [];
  read({
    get(name) {
      names.push(name);
      return undefined;
    },
  });
  return names;
}

function refuse(name: string, value: string, accepted: string): never {
  throw new InputError((field) => `${field} must be ${accepted}, not ${JSON.stringify(value)}.`, {
    path: [name],
    value,
    accepted,
  });
}

function mebibytes(environment: Environment, name: string): number | null {
  const value = wholeNumber(environment, name, null, 0, 2 ** 20);
  return value === null ? null : value * 2 ** 20;
}

function wholeNumber<Otherwise extends number | null>(
  environment: Environment,
  name: string,
  otherwise: Otherwise,
  min: number,
  max: number,
): number | Otherwise {
  const text = environment.get(name);
  if (text === undefined || text === "") return otherwise;
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= min && value <= max)) refuse(name, text, `a whole number from ${min} to ${max}`);
  return value;
}

function fraction(environment: Environment, name: string, otherwise: number): number {
  const text = environment.get(name);
  if (text === undefined || text === "") return otherwise;
  const value = /^\d*\.?\d+$/.test(text) ? Number(text) : NaN;
  if (!(value >= 0 && value <= 1)) refuse(name, text, "a number from 0 to 1, such as 0.5");
  return value;
}

/** A size in GiB as bytes. */
function gibibytes(environment: Environment, name: string): number | null {
  const text = environment.get(name);
  if (text === undefined || text === "") return null;
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : 0;
  if (!(value > 0 && value <= 2 ** 20)) refuse(name, text, "a number of GiB above 0, such as 22.5");
  return Math.floor(value * 2 ** 30);
}

/** The first choice is the default. */
function oneOf<const T extends string>(
  environment: Environment,
  name: string,
  choices: readonly [T, ...T[]],
): T {
  const text = environment.get(name);
  if (text === undefined || text === "") return choices[0];
  return choices.find((choice) => choice === text) ?? refuse(name, text, choices.join(" | "));
}

function path(environment: Environment, name: string, accepted = "a folder's path"): string | undefined {
  const text = environment.get(name);
  if (text === undefined || text === "") return undefined;
  if (text.includes("\0")) refuse(name, text, accepted);
  return isAbsolute(text) ? resolve(text) : resolve(Deno.cwd(), text);
}

function url(environment: Environment, name: string, otherwise: string): string {
  const text = environment.get(name) || otherwise;
  const parsed = URL.parse(text);
  const plain = parsed !== null && /^https?:$/.test(parsed.protocol) && parsed.search === "" &&
    parsed.hash === "";
  if (!plain || parsed.username !== "" || parsed.password !== "") {
    // A password stays out of the message.
    const shown = parsed === null ? text : parsed.origin;
    refuse(name, shown, "an http or https URL without a query or a user's name");
  }
  return text.replace(/\/+$/, "");
}

function host(environment: Environment, name: string, otherwise: string): string {
  const text = environment.get(name) || otherwise;
  const bare = text.replace(/^\[(.*)\]$/, "$1");
  if (isHost(bare.includes(":") ? `[${bare}]` : bare)) return bare;
  return refuse(name, text, "an address or a name of this machine");
}

function hosts(environment: Environment, name: string): string[] {
  const texts = (environment.get(name) || "").split(/[\s,]+/).filter((text) => text !== "");
  for (const text of texts) {
    if (isHost(text.replace(/^\*\./, ""))) continue;
    refuse(name, text, "hosts with commas between them, such as cdn.example.com,*.example.org:443");
  }
  return texts;
}

/** Whether a text is a name or an address, in brackets where it has colons; a port may follow. */
function isHost(text: string): boolean {
  return /^([\w.-]+|\[[\da-f:.]+\])(:\d+)?$/i.test(text) && URL.canParse(`http://${text}`);
}

function token(environment: Environment, name: string): string | null {
  const text = environment.get(name);
  return text === undefined || text === "" ? null : checkToken(name, text);
}

/**
 * A token as it stands.
 *
 * @param name where it came from, for the error
 * @throws InputError for one that could never be sent in a header; its value stays out of the message
 */
export function checkToken(name: string, text: string): string {
  if (/^[\x21-\x7e]+$/.test(text)) return text;
  const accepted = "printable ASCII characters without spaces";
  throw new InputError((field) => `${field} must be ${accepted}.`, { path: [name], accepted });
}
