/**
 * `deno task soak [NAME [CELL]]`: proofs that take longer than tests may. Each is a list of cells of at most an hour. What a cell
 * found is kept as a line of JSON in `soak-results/NAME.jsonl`, and a later run goes on with the cells that are missing or
 * failed: `rm` the file to begin anew. A cell that is named runs alone, also where it has held. Without a name it lists what
 * there is.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { meant } from "../src/cli/_arguments.ts";
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
  checkpoints: async () => (await import("./soak/checkpoints.ts")).checkpoints,
  crashes: async () => (await import("./soak/crashes.ts")).crashes,
  load: async () => (await import("./soak/load.ts")).underLoad,
  requests: async () => (await import("./soak/requests.ts")).requests,
  connections: async () => (await import("./soak/connections.ts")).connections,
  files: async () => (await import("./soak/files.ts")).files,
  hostile: async () => (await import("./soak/hostile.ts")).hostile,
  stops: async () => (await import("./soak/stops.ts")).stops,
  disk: async () => (await import("./soak/disk.ts")).disk,
  tokenizers: async () => (await import("./soak/tokenizers.ts")).tokenizers,
  variants: async () => (await import("./soak/variants.ts")).variants,
};

/**
 * Runs the cells that have not held yet.
 *
 * @param file the results' file, made where it is missing; of two results of a cell the later counts
 * @param signal ends it; a cell under way is left without a result
 * @param cells those that run; the ones that have not held yet unless given
 * @returns those of them that failed or were left
 */
export async function runSoak(
  soak: Soak,
  file: string,
  signal: AbortSignal,
  say: (line: string) => void,
  cells?: readonly string[],
): Promise<string[]> {
  const counted = (await readResults(file)).filter(({ version }) => version === soak.version);
  const held = new Map(counted.map(({ cell, ok }) => [cell, ok]));
  const due = cells ?? soak.cells.filter((cell) => !held.get(cell));
  if (due.length < soak.cells.length) say(`${due.length} of ${soak.cells.length} cells are to run.`);
  const left = new Set(due);
  const begun = performance.now();
  for (const [i, cell] of due.entries()) {
    if (signal.aborted) break;
    const minutes = Math.round((performance.now() - begun) / 60_000);
    const more = (due.length - i) * soak.minutesPerCell;
    say(`Cell ${cell} (${i + 1} of ${due.length}, ${minutes} minutes gone, about ${more} left)`);
    const start = performance.now();
    const outcome = await soak.run(cell, signal).then(
      (figures) => ({ ok: true, ...figures }),
      (error) => ({ ok: false, error: error instanceof Error ? error.message : String(error) }),
    );
    if (signal.aborted) break;
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
    if (result.ok) left.delete(cell);
  }
  return [...left];
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

/** @returns the exit code: 0 all held, 1 a cell failed, 2 no such proof or cell, 130 or 143 after a signal */
async function main(args: readonly string[]): Promise<number> {
  const { positionals: [name, cell, ...more] } = parseArgs({
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
    const names = Object.keys(SOAKS);
    console.error(`Give one of ${names.join(", ")}, not ${args.join(" ")}.${meant(name, names)}`);
    return 2;
  }
  const soak = await load();
  const named = cell === undefined ? undefined : [cell];
  if (cell !== undefined && !soak.cells.includes(cell)) {
    console.error(
      `Give a cell of ${name}, one of ${soak.cells.map((c) => `"${c}"`).join(", ")}, not "${cell}".`,
    );
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
  const left = await runSoak(soak, file, stop.signal, (line) => console.log(line), named);
  if (left.length === 0) console.log(`${cell ?? "Every cell"} has held: ${file}`);
  else if (!stop.signal.aborted) {
    console.error(`Failed: ${left.join(", ")}. One alone: deno task soak ${name} "${left[0]}"`);
  }
  return left.length === 0 ? 0 : code;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
