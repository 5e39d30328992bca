/**
 * Every check of the project, one after another: lock file, format, lint, types, then the tests with named permissions.
 * Each gate counts as one, each test as one; the last line is `N passed, N failed`, the exit code 1 where any failed.
 * Arguments go on to `deno test`: `deno task test tests/gpu --filter matmul`.
 */
import { fileURLToPath } from "node:url";
import { gpuEnvironment } from "../src/cli/_gpu_environment.ts";

/** How many checks held and how many did not. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
}

/** The gates before the tests; any of them may fail without stopping the rest. */
const GATES: readonly (readonly string[])[] = [
  ["install", "--quiet", "--frozen"],
  ["fmt", "--check"],
  ["lint", "--quiet"],
  ["check", "--quiet"],
];

/**
 * What tests may do: serve and fetch on this machine, write temporary folders, start the command line as a process.
 * The types were checked by the gate before.
 */
const TESTS = [
  "test",
  "--no-check",
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-run",
  "--allow-net=127.0.0.1,localhost",
  "--deny-ffi",
];

/**
 * Reads the counts off the summary of `deno test`.
 *
 * @param output all that `deno test` printed, without colours
 * @param code its exit code
 * @returns the counts; one failure where there is no summary or the summary hides one, as after a crash
 */
export function tallyOf(output: string, code: number): Tally {
  // The last one: a test that runs `deno test` itself prints a summary too.
  const summary = [...output.matchAll(/^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed/gm)].at(-1);
  const passed = Number(summary?.[1] ?? 0);
  const failed = Number(summary?.[2] ?? 0);
  return { passed, failed: code !== 0 && failed === 0 ? 1 : failed };
}

/** Runs `deno` with its output shown as it comes, and kept. */
async function deno(args: readonly string[]): Promise<{ code: number; output: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    env: { ...gpuEnvironment(), NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  const show = async (stream: ReadableStream<Uint8Array>, to: typeof Deno.stdout) => {
    const text = new TextDecoder();
    for await (const bytes of stream) {
      output += text.decode(bytes, { stream: true });
      for (let from = 0; from < bytes.length;) from += await to.write(bytes.subarray(from));
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
  let passed = 0;
  let failed = 0;
  for (const gate of GATES) {
    const { code } = await deno(gate);
    console.log(`deno ${gate.join(" ")} ... ${code === 0 ? "ok" : "FAILED"}`);
    code === 0 ? passed++ : failed++;
  }
  const { code, output } = await deno([...TESTS, ...Deno.args]);
  const tests = tallyOf(output, code);
  passed += tests.passed;
  failed += tests.failed;
  console.log(`${passed} passed, ${failed} failed`);
  Deno.exit(failed === 0 ? 0 : 1);
}
