/** The README's table of figures, from the kept results. */
import { figure, type Report, verdictOf } from "./_report.ts";

const BEGIN = "<!-- figures: written by deno task bench --readme -->";
const END = "<!-- end of figures -->";

/**
 * Writes the README's block of figures anew.
 *
 * @param results folder of the kept results
 */
export async function updateReadme(readme: URL, results: URL): Promise<void> {
  await Deno.writeTextFile(readme, withFigures(await Deno.readTextFile(readme), await readReports(results)));
}

/** The kept results, by device. */
export async function readReports(results: URL): Promise<Report[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(results)) if (name.endsWith(".json")) names.push(name);
  return await Promise.all(
    names.toSorted().map(async (name) => JSON.parse(await Deno.readTextFile(new URL(name, results)))),
  );
}

/** The README with these figures. @throws {Error} where it has no block for them */
export function withFigures(readme: string, reports: readonly Report[]): string {
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`README.md has no block between ${BEGIN} and ${END}.`);
  const tables = reports.map(table).join("\n\n");
  return `${readme.slice(0, begin)}${BEGIN}\n\n${tables}\n\n${readme.slice(end)}`;
}

/** A device's figures that have a target or are marked, as `deno fmt` lays tables out. */
function table({ device, machine, parts }: Report): string {
  const rows = Object.entries(parts).flatMap(([part, { rows }]) =>
    rows.filter(({ target, shown }) => target || shown).map((row) => [
      row.name,
      `${figure(row.value)} ${row.unit}`,
      verdictOf(row),
      `\`deno task bench ${part}\``,
    ])
  );
  const cells = [["what", "figure", "target", "command"], ...rows];
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length), 3));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [`${device}:\n\n${machine}:`, "", line(cells[0]!), rule, ...cells.slice(1).map(line)].join("\n");
}
