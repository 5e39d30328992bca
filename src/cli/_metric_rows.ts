/** Metrics as a person reads them: a line a step under a heading, and another for an evaluation. */

const COLUMNS: readonly {
  readonly name: string;
  readonly heading: string;
  readonly digits: number | "exponent";
}[] = [
  { name: "loss", heading: "loss", digits: 4 },
  { name: "rewards/margins", heading: "margin", digits: 4 },
  { name: "rewards/accuracies", heading: "accuracy", digits: 3 },
  { name: "logps/chosen", heading: "chosen", digits: 4 },
  { name: "grad_norm", heading: "gradient", digits: 3 },
  { name: "learning_rate", heading: "rate", digits: "exponent" },
  { name: "epoch", heading: "epoch", digits: 2 },
];
const WIDTH = 10;

/** The lines of a run, one event after another. */
export class MetricRows {
  #columns: typeof COLUMNS | null = null;

  /**
   * @param data an event's metrics by TRL's names, and its step
   * @returns the lines to print: before the first of a run its heading
   */
  lines(data: Readonly<Record<string, unknown>>): string[] {
    const lines: string[] = [];
    for (const [kind, prefix] of [["", ""], ["eval", "eval_"]] as const) {
      if (!COLUMNS.some(({ name }) => `${prefix}${name}` in data)) continue;
      if (this.#columns === null) {
        this.#columns = COLUMNS.filter(({ name }) => `${prefix}${name}` in data);
        lines.push(row("step", this.#columns.map(({ heading }) => heading)));
      }
      const values = this.#columns.map(({ name, digits }) => shown(data[`${prefix}${name}`], digits));
      lines.push(`${row(String(data["step"]), values)}  ${kind}`.trimEnd());
    }
    return lines;
  }
}

function row(step: string, cells: readonly string[]): string {
  return [step.padStart(7), ...cells.map((cell) => cell.padStart(WIDTH))].join("");
}

function shown(value: unknown, digits: number | "exponent"): string {
  if (typeof value !== "number") return "";
  return digits === "exponent" ? value.toExponential(2) : value.toFixed(digits);
}
