/**
 * What each command may do, as flags of `deno run`. Every folder and host that a setting or an argument adds is added
 * here: the packages that the worker uses run with these flags too.
 */
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { COMMANDS } from "./commands.ts";
import {
  CHECKOUT,
  type Config,
  DRIVER_THREADS,
  type Environment,
  readConfig,
  readGpuEnvironment,
  variablesOf,
} from "./config.ts";
import { InputError } from "./errors.ts";
import { NVIDIA_SMI } from "./gpu/device_memory.ts";

/** A command that has permissions of its own. */
export type Command = Exclude<keyof typeof COMMANDS, "demo">;

/** What Workers are started from: Deno asks for their modules' files, unlike those of the process itself. */
const CODE = ["src", "shaders"];

/** Where a Vulkan driver's libraries lie; doctor looks for them. */
export const LIBRARY_FOLDERS = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
  "/usr/lib",
  "/usr/local/lib",
  "/usr/local/nvidia/lib64",
];

/** Where the files lie that name a Vulkan driver's library; doctor lists them. */
export const DRIVER_FOLDERS = [
  "/usr/share/vulkan/icd.d",
  "/etc/vulkan/icd.d",
  "/usr/local/share/vulkan/icd.d",
];

/** The Hugging Face hub sends the large files' readers on to hosts under these names, by region and by storage. */
const HUGGING_FACE_FILES = ["*.huggingface.co:443", "*.hf.co:443"];

/** A command's permissions, each a list of what is allowed. */
interface Permissions {
  readonly read: readonly string[];
  readonly write?: readonly string[];
  readonly net?: readonly string[];
  readonly run?: readonly string[];
  /** Kinds of questions about the system. */
  readonly sys?: readonly string[];
  /** Variables beside the settings. */
  readonly env?: readonly string[];
}

/** What the permissions are made of. */
interface Needs {
  /** SIMPO_ROOT as given and as its real path: names are looked up under that. */
  readonly root: readonly string[];
  readonly state: string;
  readonly cache: string;
  /** The file of SIMPO_TOKEN_FILE. */
  readonly tokenFile: string | null;
  /** Host and port that the service listens on. */
  readonly address: string;
  /** The hub, and the hosts that it sends on to. */
  readonly hub: readonly string[];
  /** Drivers' files that the environment names. */
  readonly driverFiles: readonly string[];
  /** Files that arguments name, in their order; null for stdin or stdout. */
  readonly files: readonly (string | null)[];
  /** The file of `--chat-template`. */
  readonly template: string | null;
}

/** How much of a disk is free. */
const FREE_ROOM = "statfs";

/** Deno asks for the paths as they are written, and follows symbolic links below them without asking. */
const PERMISSIONS: Record<Command, (needs: Needs) => Permissions> = {
  serve: ({ root, state, cache, tokenFile, address, hub }) => ({
    read: [...root, state, cache, ...named(tokenFile)],
    write: [state, cache],
    net: [address, ...hub],
    run: [NVIDIA_SMI],
    sys: [FREE_ROOM],
  }),
  train: ({ root, state, cache, hub, files: [job] }) => ({
    read: [...root, state, cache, ...named(job)],
    write: [state, cache],
    net: hub,
    run: [NVIDIA_SMI],
    sys: [FREE_ROOM],
  }),
  plan: ({ root, state, cache, hub, files: [job] }) => ({
    // the state to tell where it is: no name leads into it
    read: [...root, state, cache, ...named(job)],
    write: [cache],
    net: hub,
    run: [NVIDIA_SMI],
  }),
  inspect: ({ root, state, cache, hub, files: [job] }) => ({
    // the state to tell where it is: no name leads into it
    read: [...root, state, cache, ...named(job)],
    write: [cache],
    net: hub,
  }),
  score: ({ root, state, cache, hub, files: [input, output], template }) => ({
    read: [...root, state, cache, ...named(input), ...named(template)],
    write: [cache, ...named(output)],
    net: hub,
  }),
  doctor: ({ driverFiles }) => ({
    read: [...LIBRARY_FOLDERS, ...DRIVER_FOLDERS, ...driverFiles],
    env: variablesOf(readGpuEnvironment),
  }),
};

/**
 * Flags for `deno run FLAGS main.ts COMMAND ARGS`. Relative paths are relative to the current folder, as the command
 * itself takes them.
 *
 * @param command its name; what is no command that needs permissions, `help` for one, gets none
 * @param args what stands behind the name; mistakes in it are left for the command to refuse
 * @param environment the variables that the process will see
 * @throws InputError for a setting that cannot be used, and for a path with a comma: Deno's lists know no way to write it
 *
 * @example What `doctor` may read
 * ```ts
 * import assert from "node:assert/strict";
 * import { permissionFlags } from "./permissions.ts";
 * const flags = permissionFlags("doctor", [], { get: () => undefined });
 * assert.ok(flags.some((flag) => flag.startsWith("--allow-read=") && flag.includes("/etc/vulkan/icd.d")));
 * ```
 */
export function permissionFlags(
  command: string | undefined,
  args: readonly string[],
  environment: Environment,
): string[] {
  // Nothing asks at the terminal. Code comes from the checkout and from packages that are there, which `deno task` sees to:
  // even the question for another package would tell the registry a name.
  const fixed = ["--no-prompt", "--no-remote", "--cached-only"];
  if (command === undefined || !Object.hasOwn(PERMISSIONS, command)) return fixed;
  const { read, write, net, run, sys, env = [] } = PERMISSIONS[command as Command](
    needsOf(command as Command, args, environment),
  );
  const lists = {
    read: [...CODE.map((folder) => plain("The checkout's path", join(CHECKOUT, folder))), ...read],
    write,
    net,
    run,
    sys,
    env: [...variablesOf(readConfig), DRIVER_THREADS, ...env],
  };
  const flags = Object.entries(lists).flatMap(([name, allowed]) =>
    allowed === undefined ? [] : [`--allow-${name}=${allowed.join(",")}`]
  );
  return [...fixed, ...flags];
}

function needsOf(command: Command, args: readonly string[], environment: Environment): Needs {
  const config = readConfig(environment);
  const { values, positionals } = parseArgs({
    args: [...args],
    options: COMMANDS[command].options,
    strict: false,
    allowPositionals: true,
  });
  const template = values["chat-template"];
  return {
    root: [...new Set([config.root, realPath(config.root)])].map((path) => plain("SIMPO_ROOT", path)),
    state: plain("SIMPO_STATE", config.state),
    cache: plain("SIMPO_CACHE", config.cache),
    tokenFile: config.tokenFile === null ? null : plain("SIMPO_TOKEN_FILE", config.tokenFile),
    address: `${config.host.includes(":") ? `[${config.host}]` : config.host}:${config.port}`,
    hub: hubHosts(config),
    driverFiles: readGpuEnvironment(environment).driverFiles
      .map((path) => plain("VK_DRIVER_FILES", resolve(path))),
    files: positionals.map((path) => path === "-" ? null : plain("A file's path", resolve(path))),
    template: typeof template === "string" ? plain("--chat-template", resolve(template)) : null,
  };
}

/** A mirror's own hosts for files are not known here: SIMPO_HOSTS names them. */
function hubHosts({ hubEndpoint, hubHosts }: Config): string[] {
  const { protocol, hostname, port } = new URL(hubEndpoint);
  const own = `${hostname}:${port || (protocol === "https:" ? 443 : 80)}`;
  return [own, ...hostname === "huggingface.co" ? HUGGING_FACE_FILES : [], ...hubHosts];
}

function named(path: string | null | undefined): string[] {
  return path == null ? [] : [path];
}

/** The path itself where nothing is there: the command says so. */
function realPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch {
    return path;
  }
}

function plain(name: string, path: string): string {
  if (!path.includes(",")) return path;
  const accepted = "a path without a comma";
  throw new InputError(`${name} must be ${accepted}, not ${JSON.stringify(path)}.`, {
    path: [name],
    value: path,
    accepted,
  });
}
