/** A row's columns, and which of them its reading has used. */
import { isObject } from "../../json.ts";

/** New names for columns: `{prompt: "question"}` reads the column `question` as the prompt; null: there is none. */
export type ColumnNames = Readonly<Record<string, string | null>>;

/** A row of a data set while it is read. */
export class Columns {
  readonly #values: Record<string, unknown>;
  /** What the row itself calls a column that was mapped. */
  readonly #names: ReadonlyMap<string, string>;
  readonly #used = new Set<string>();
  readonly #mapped: ReadonlySet<string>;
  readonly #notes = new Set<string>();
  readonly #dropped = new Set<string>();

  /** @param names which column is which, where the row's own names do not say it */
  constructor(row: Readonly<Record<string, unknown>>, names: ColumnNames = {}) {
    const sources = Object.entries(names).filter((entry): entry is [string, string] => entry[1] !== null);
    if (sources.length === 0 && !Object.values(names).includes(null)) {
      this.#values = row;
      this.#names = new Map();
    } else {
      const taken = new Set(sources.map(([, source]) => source));
      // A column whose name another has taken is read no more, and so is told as unused under its own name.
      this.#values = Object.fromEntries(Object.entries(row).filter(([name]) => !taken.has(name)));
      for (const name of Object.keys(names)) {
        if (name in this.#values) {
          this.#values[`(${name})`] = this.#values[name];
          delete this.#values[name];
        }
      }
      for (const [name, source] of sources) this.#values[name] = valueAt(row, source);
      this.#names = new Map(sources);
    }
    this.#mapped = new Set(Object.keys(names));
  }

  /** Whether the row has a column of that name, be it null. */
  has(name: string): boolean {
    return name in this.#values;
  }

  /** Whether the user has said which column this is, or that there is none. */
  isMapped(name: string): boolean {
    return this.#mapped.has(name);
  }

  /** A column's value, left unused. */
  peek(name: string): unknown {
    return this.#values[name];
  }

  /** A column's value, which is used. */
  take(name: string): unknown {
    this.#used.add(name);
    return this.#values[name];
  }

  /** Something of how the row was read that its columns' names do not tell. */
  note(what: string): void {
    this.#notes.add(what);
  }

  /** Parts of a used column that hold text and are not used: `answers[].model`. */
  drop(column: string, entry: unknown, ...used: readonly string[]): void {
    if (!isObject(entry)) return;
    for (const [name, value] of Object.entries(entry)) {
      if (!used.includes(name) && holdsText(value)) this.#dropped.add(`${column}.${name}`);
    }
  }

  /** Whether a column holds any text. */
  hasText(name: string): boolean {
    return holdsText(this.#values[name]);
  }

  /**
   * The shape that the row was read as: `{question, chosen, rejected}`, with what was noted.
   *
   * @param first names that are told before others, in their order
   */
  shape(first: readonly string[]): string {
    const used = [
      ...first.filter((name) => this.#used.has(name)),
      ...[...this.#used].filter((name) => !first.includes(name)),
    ];
    const names = used.filter((name) => this.has(name)).map((name) => {
      const source = this.#names.get(name);
      return source === undefined || source === name ? name : `${name}: ${source}`;
    });
    return [`{${names.join(", ")}}`, ...this.#notes].join(", ");
  }

  /** Columns that hold text and were not used. */
  get unused(): string[] {
    const columns = Object.keys(this.#values)
      .filter((name) => !this.#used.has(name) && holdsText(this.#values[name]))
      .map((name) => name.replace(/^\((.*)\)$/, "$1"));
    return [...columns, ...this.#dropped];
  }

  /** The row's columns that are not null, by name. */
  get names(): string[] {
    return Object.keys(this.#values).filter((name) => this.#values[name] != null);
  }
}

/** A column, or where no column has the name what a path such as `data.question` leads to. */
function valueAt(row: Readonly<Record<string, unknown>>, path: string): unknown {
  const own = (value: unknown, name: string) =>
    isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined;
  if (Object.hasOwn(row, path)) return row[path];
  return path.split(".").reduce<unknown>(own, row);
}

function holdsText(value: unknown): boolean {
  if (typeof value === "string") return value.trim() !== "";
  if (Array.isArray(value)) return value.some(holdsText);
  return isObject(value) && Object.values(value).some(holdsText);
}
