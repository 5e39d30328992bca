/**
 * Every check of the project, one after another: lock file, format, lint, types, the documentation's examples, then the tests
 * with named permissions.
 * Without `--all` a sample of the tests' variants runs (`tests/helpers/tier.ts`). Each gate counts as one, each test as one;
 * the last line is `N passed, N failed`, the exit code 1 where any failed. Other arguments go on to `deno test`:
 * `deno task test tests/gpu --filter matmul`.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import config from "../deno.json" with { type: "json" };
import { gpuEnvironment } from "../src/cli/_gpu_environment.ts";
import { TIER_VARIABLE } from "../tests/helpers/tier.ts";

/** How many checks held, how many did not, and how many were left out. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly ignored: number;
}

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Whose examples run. */
const DOCUMENTED = ["src", "routes"];

/**
 * The gates before the tests; any of them may fail without stopping the rest. They look at what deno.json includes, not at
 * files that a user keeps beside it; `deno check` alone has to be told.
 */
export const GATES: readonly (readonly string[])[] = [
  ["install", "--quiet", "--frozen"],
  ["fmt", "--check"],
  ["lint", "--quiet"],
  ["check", "--quiet", "--doc", ...config.lint.include],
  // every @example of the documentation; their types are checked above
  [
    "test",
    "--quiet",
    "--doc",
    "--permit-no-files",
    "--no-check",
    "--no-prompt",
    "--allow-read",
    "--allow-env",
    ...DOCUMENTED,
  ],
];

/**
 * What tests may do: serve and fetch on this machine, write temporary folders, start the command line as a process.
 * The types were checked by the gate before.
 */
export const TEST_COMMAND = [
  "test",
  "--no-check",
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-run",
  "--allow-net=127.0.0.1,localhost",
  "--deny-ffi",
  "--parallel",
];

/** What a tier is, and how long it takes on two cores with empty caches. */
const TIERS = {
  sample: "a sample of the variants: under ten minutes on two cores",
  all: "every value of each variant: some 14 minutes on two cores with Mesa 22",
};

/** A driver compiles kernels on one core: two files at a time use two. More share the driver's threads and gain nothing. */
const FILES_AT_A_TIME = "2";

/** Slowest test files that are named at the end. */
const SLOWEST = 5;

/**
 * Reads the counts off the summary of `deno test`.
 *
 * @param output all that `deno test` printed, without colours
 * @param code its exit code
 * @returns the counts; one failure where there is no summary or the summary hides one, as after a crash
 */
export function tallyOf(output: string, code: number): Tally {
  // The last one: a test that runs `deno test` itself prints a summary too.
  const summary = [
    ...output.matchAll(/^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed(?:.*? \| (\d+) ignored)?/gm),
  ].at(-1);
  const [passed, failed, ignored] = [1, 2, 3].map((i) => Number(summary?.[i] ?? 0)) as [
    number,
    number,
    number,
  ];
  return { passed, failed: code !== 0 && failed === 0 ? 1 : failed, ignored };
}

/** Where a run of the tests is: told behind the first line of each file. */
export class Progress {
  readonly #files: number;
  readonly #now: () => number;
  readonly #start: number;
  /** By file, when its first line came and when its last. */
  readonly #seen = new Map<string, { readonly first: number; last: number }>();
  /** The file whose lines do not name it: the one that runs where one runs at a time. */
  #only: string | null = null;

  /** @param files how many files there are */
  constructor(files: number, now: () => number = () => performance.now()) {
    this.#files = files;
    this.#now = now;
    this.#start = now();
  }

  /** @returns what is to be told after a line; null: nothing */
  line(text: string): string | null {
    const [, begun] = /^running \d+ tests? from \.\/(\S+)$/.exec(text) ?? [];
    const [, file = begun] = /^\.\/(\S+_test\.ts) => /.exec(text) ?? [];
    if (file === undefined) return null;
    const now = this.#now();
    if (begun !== undefined) {
      this.#end(now);
      this.#only = begun;
    }
    const seen = this.#seen.get(file);
    if (seen) {
      seen.last = now;
      return null;
    }
    this.#seen.set(file, { first: now, last: now });
    return `  [file ${this.#seen.size} of ${this.#files}, after ${duration(now - this.#start)}]`;
  }

  /** How long all took, and the files that took longest from their first test's end on. */
  summary(): string {
    this.#end(this.#now());
    const took = Array.from(this.#seen, ([file, { first, last }]) => ({ file, ms: last - first }))
      .sort((a, b) => b.ms - a.ms)
      .slice(0, SLOWEST)
      .map(({ file, ms }) => `${file} ${duration(ms)}`);
    return `${duration(this.#now() - this.#start)}; longest were ${took.join(", ")}`;
  }

  #end(now: number): void {
    const seen = this.#only === null ? undefined : this.#seen.get(this.#only);
    if (seen) seen.last = now;
  }
}

/** `3 min 05 s`, or `5 s`. */
function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  return minutes === 0 ? `${rest} s` : `${minutes} min ${String(rest).padStart(2, "0")} s`;
}

/** Test files under the paths that the arguments name, or under all of tests/. */
async function countFiles(args: readonly string[]): Promise<number> {
  const named = args.filter((arg) => !arg.startsWith("-") && /^(\.\/)?tests\b/.test(arg));
  let files = 0;
  const count = async (path: string): Promise<void> => {
    const found = await Deno.stat(path).catch(() => null);
    if (found?.isFile) files += /_test\.ts$/.test(path) ? 1 : 0;
    else if (found) { for await (const { name } of Deno.readDir(path)) await count(join(path, name)); }
  };
  for (const path of named.length > 0 ? named : ["tests"]) await count(join(ROOT, path));
  return files;
}

/** Runs `deno` with its output shown as it comes, and kept; what `after` says of a line comes behind it. */
async function deno(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  after: (line: string) => string | null = () => null,
): Promise<{ code: number; output: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { ...gpuEnvironment(), NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  const show = async (stream: ReadableStream<Uint8Array>, to: typeof Deno.stdout) => {
    const text = new TextDecoder();
    const write = (part: string) => {
      const bytes = new TextEncoder().encode(part);
      for (let from = 0; from < bytes.length;) from += to.writeSync(bytes.subarray(from));
    };
    let line = "";
    for await (const bytes of stream) {
      const decoded = text.decode(bytes, { stream: true });
      output += decoded;
      for (const part of decoded.split(/(?<=\n)/)) {
        write(part);
        line += part;
        if (!line.endsWith("\n")) continue;
        const told = after(line.trimEnd());
        if (told !== null) write(`${told}\n`);
        line = "";
      }
    }
  };
  const [{ code }] = await Promise.all([
    child.status,
    show(child.stdout, Deno.stdout),
    show(child.stderr, Deno.stderr),
  ]);
  return { code, output };
}

if (import.meta.main) {
  const all = Deno.args.includes("--all");
  const args = Deno.args.filter((arg) => arg !== "--all");
  const tier = all ? "all" : "sample";
  console.log(`Gates, then ${TIERS[tier]}.`);
  let passed = 0;
  let failed = 0;
  for (const gate of GATES) {
    const { code } = await deno(gate);
    console.log(`deno ${gate.join(" ")} ... ${code === 0 ? "ok" : "FAILED"}`);
    code === 0 ? passed++ : failed++;
  }
  const progress = new Progress(await countFiles(args));
  const env = { [TIER_VARIABLE]: tier, DENO_JOBS: FILES_AT_A_TIME };
  const { code, output } = await deno([...TEST_COMMAND, ...args], env, (line) => progress.line(line));
  const tests = tallyOf(output, code);
  passed += tests.passed;
  failed += tests.failed;
  console.log(`Tests: ${progress.summary()}.`);
  if (tests.ignored > 0) {
    console.log(`${tests.ignored} were left out: see docs/testing.md.`);
  }
  console.log(`${passed} passed, ${failed} failed`);
  Deno.exit(failed === 0 ? 0 : 1);
}
