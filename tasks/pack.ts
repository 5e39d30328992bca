/**
 * `deno task pack [folder]`: what a Linux machine without network needs beside a checkout to run it on its GPU: this
 * Deno, the npm packages of deno.lock and Debian's Vulkan loader, in `.bundle` unless a folder is named. There, in bash:
 * `. .bundle/enter.sh`, and every task runs.
 */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

/** Where the parts of a bundle come from; tests put pretended ones in their place. */
export interface PackSource {
  /** Deno's own binary. */
  readonly deno: string;
  /** Fills a DENO_DIR with the npm packages of deno.lock. */
  installPackages(denoDir: string): Promise<void>;
  /** Puts Debian's packages of the Vulkan loader, and of what NVIDIA's driver links, into a folder. */
  downloadLoader(folder: string): Promise<void>;
}

/** The bundle cannot be made; the message says why in one sentence. */
export class PackError extends Error {
  override readonly name = "PackError";
}

/** What may be sent along with a checkout. */
const MOST_BYTES = 64 * 2 ** 20;
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const ENTER = fileURLToPath(new URL("pack/enter.sh", import.meta.url));
/** The Vulkan loader, and the GL libraries that NVIDIA's Vulkan driver loads. */
const DEBIAN_PACKAGES = ["libvulkan1", "libegl1", "libgl1", "libgles2", "libglvnd0", "libglx0", "libopengl0"];

/**
 * Makes a bundle, in place of an earlier one.
 *
 * @returns bytes by file
 * @throws {PackError} where the folder holds something else, a part is not to be had, or the whole is too large
 */
export async function pack(
  folder: string,
  source: PackSource,
  mostBytes = MOST_BYTES,
): Promise<Map<string, number>> {
  const names = await namesIn(folder);
  if (names.length > 0 && !names.includes("enter.sh")) {
    throw new PackError(`${folder} holds something else than a bundle: ${names.slice(0, 3).join(", ")}.`);
  }
  await Deno.remove(folder, { recursive: true }).catch(() => {});
  const loader = join(folder, "loader");
  await Deno.mkdir(loader, { recursive: true });
  await Deno.copyFile(ENTER, join(folder, "enter.sh"));

  using binary = await Deno.open(source.deno);
  using compressed = await Deno.create(join(folder, "deno.gz"));
  await binary.readable.pipeThrough(new CompressionStream("gzip")).pipeTo(compressed.writable);

  const denoDir = await Deno.makeTempDir({ prefix: "simpo-pack-" });
  try {
    await source.installPackages(denoDir);
    await run(["tar", "-czf", resolve(folder, "packages.tar.gz"), "-C", denoDir, "npm"]);
  } finally {
    await Deno.remove(denoDir, { recursive: true });
  }
  await source.downloadLoader(loader);

  const files = ["enter.sh", "deno.gz", "packages.tar.gz"];
  files.push(...(await namesIn(loader)).map((name) => join("loader", name)));
  const sizes = new Map<string, number>();
  for (const file of files) sizes.set(file, (await Deno.stat(join(folder, file))).size);
  const total = sizes.values().reduce((sum, size) => sum + size, 0);
  if (total > mostBytes) throw new PackError(`${folder} has ${total} bytes, more than ${mostBytes}.`);
  return sizes;
}

/** This process's Deno, the npm registry and Debian's mirror. */
function thisMachine(): PackSource {
  return {
    deno: Deno.execPath(),
    installPackages: (denoDir) =>
      run([Deno.execPath(), "install", "--quiet", "--frozen"], { cwd: ROOT, env: { DENO_DIR: denoDir } }),
    async downloadLoader(folder) {
      // lists of our own: neither root nor the machine's own architecture is asked for
      const lists = await Deno.makeTempDir({ prefix: "simpo-pack-apt-" });
      await Deno.mkdir(join(lists, "partial"));
      const options = [`Dir::State::Lists=${lists}`, "APT::Architecture=amd64", "APT::Architectures=amd64"];
      const aptGet = ["apt-get", "--quiet", "--quiet", ...options.flatMap((option) => ["-o", option])];
      try {
        await run([...aptGet, "update"]);
        await run([...aptGet, "download", ...DEBIAN_PACKAGES], { cwd: folder });
      } finally {
        await Deno.remove(lists, { recursive: true });
      }
    },
  };
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** @throws {PackError} where there is no such command, or it fails */
async function run([name, ...args]: readonly string[], options: Deno.CommandOptions = {}): Promise<void> {
  let result;
  try {
    result = await new Deno.Command(name!, { ...options, args, stdin: "null" }).output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new PackError(`There is no command ${name} here.`);
    throw error;
  }
  if (result.success) return;
  const last = new TextDecoder().decode(result.stderr).trim().split("\n").slice(-3).join(" / ");
  throw new PackError(`${name} ended with code ${result.code}: ${last}`);
}

/** The folder that the arguments name. @throws {Error} where there is an option, or more than one folder */
export function parseFolder(args: readonly string[]): string {
  const { positionals } = parseArgs({ args: [...args], options: {}, allowPositionals: true });
  if (positionals.length > 1) throw new Error(`Give one folder, not ${positionals.join(", ")}.`);
  return positionals[0] ?? ".bundle";
}

function folderOrExit(args: readonly string[]): string {
  try {
    return parseFolder(args);
  } catch (error) {
    console.error(`${(error as Error).message}\nUsage: deno task pack [folder, by default .bundle]`);
    Deno.exit(2);
  }
}

if (import.meta.main) {
  const folder = folderOrExit(Deno.args);
  try {
    if (Deno.build.target !== "x86_64-unknown-linux-gnu") {
      throw new PackError(`The bundle holds this machine's Deno; it must be Linux's on x86-64.`);
    }
    const sizes = await pack(folder, thisMachine());
    for (const [file, bytes] of sizes) console.log(`${(bytes / 1e6).toFixed(2).padStart(6)} MB  ${file}`);
    console.log(
      `\nOn a machine without network, in the checkout with ${folder}, in bash: . ${folder}/enter.sh`,
    );
  } catch (error) {
    if (!(error instanceof PackError)) throw error;
    console.error(error.message);
    Deno.exit(1);
  }
}
