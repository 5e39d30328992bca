/**
 * `deno task soak [NAME]`: proofs that take longer than tests may. Each is a list of cells of at most an hour. What a cell
 * found is kept as a line of JSON in `soak-results/NAME.jsonl`, and a later run goes on with the cells that are missing or
 * failed: `rm` the file to begin anew. Without a name it lists what there is.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Soak } from "./soak/_soak.ts";

/** A line of the results. */
interface Result {
  readonly version: number;
  readonly cell: string;
  readonly ok: boolean;
  readonly seconds: number;
  readonly at: string;
  readonly [figure: string]: unknown;
}

/** The proofs by their names; each is loaded when it is called for. */
const SOAKS: Readonly<Record<string, () => Promise<Soak>>> = {
  crashes: async () => (await import("./soak/crashes.ts")).crashes,
  requests: async () => (await import("./soak/requests.ts")).requests,
};

/**
 * Runs the cells that have not held yet.
 *
 * @param file the results' file, made where it is missing
 * @param signal ends it; a cell under way is left without a result
 * @returns whether every cell has held
 */
export async function runSoak(
  soak: Soak,
  file: string,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<boolean> {
  const held = new Set(
    (await readResults(file)).filter(({ version, ok }) => ok && version === soak.version)
      .map(({ cell }) => cell),
  );
  if (held.size > 0) say(`${held.size} of ${soak.cells.length} cells have held before.`);
  let failed = 0;
  for (const [i, cell] of soak.cells.entries()) {
    if (held.has(cell)) continue;
    if (signal.aborted) return false;
    say(`Cell ${cell} (${i + 1} of ${soak.cells.length}, about ${soak.minutesPerCell} minutes)`);
    const start = performance.now();
    const outcome = await soak.run(cell, signal).then(
      (figures) => ({ ok: true, ...figures }),
      (error) => ({ ok: false, error: error instanceof Error ? error.message : String(error) }),
    );
    if (signal.aborted) return false;
    const seconds = Math.round((performance.now() - start) / 1000);
    const result: Result = {
      version: soak.version,
      cell,
      seconds,
      at: new Date().toISOString(),
      ...outcome,
    };
    const line = JSON.stringify(result);
    await Deno.mkdir(dirname(file), { recursive: true });
    await Deno.writeTextFile(file, `${line}\n`, { append: true });
    say(line);
    if (!result.ok) failed++;
  }
  return failed === 0;
}

/** Reads earlier results, and takes the last line away where a kill has cut it. */
async function readResults(file: string): Promise<Result[]> {
  const text = await Deno.readTextFile(file).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  });
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  if (whole !== text) await Deno.writeTextFile(file, whole);
  return whole.split("\n").slice(0, -1).map((line) => JSON.parse(line));
}

/** @returns the exit code: 0 all held, 1 a cell failed, 2 no such proof, 130 or 143 after a signal */
async function main(args: readonly string[]): Promise<number> {
  const { positionals: [name, ...more] } = parseArgs({
    args: [...args],
    options: {},
    allowPositionals: true,
  });
  const load = name === undefined ? undefined : SOAKS[name];
  if (load === undefined || more.length > 0) {
    for (const [name, load] of Object.entries(SOAKS)) {
      const { proves, cells, minutesPerCell } = await load();
      console.log(`${name}: ${proves} ${cells.length} cells of about ${minutesPerCell} minutes.`);
    }
    if (name === undefined) return 0;
    console.error(`Give one of ${Object.keys(SOAKS).join(", ")}, not ${[name, ...more].join(" ")}.`);
    return 2;
  }
  const stop = new AbortController();
  let code = 1;
  for (const [signal, number] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    Deno.addSignalListener(signal, () => {
      code = number;
      stop.abort();
    });
  }
  const file = join(fileURLToPath(new URL("..", import.meta.url)), "soak-results", `${name}.jsonl`);
  const held = await runSoak(await load(), file, stop.signal, (line) => console.log(line));
  if (held) console.log(`Every cell has held: ${file}`);
  else if (!stop.signal.aborted) console.error(`A cell failed; deno task soak ${name} runs it again.`);
  return held ? 0 : code;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
