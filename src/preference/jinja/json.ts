/** `json.dumps`, which transformers' `tojson` is. */
import { chargeText, deeper, step } from "./budget.ts";
import { less } from "./compare.ts";
import { fail } from "./errors.ts";
import { floatText } from "./print.ts";
import { Dict, Float, textOf, Tuple, typeName, type Value } from "./values.ts";

/** How JSON is written. */
export interface JsonStyle {
  readonly ascii: boolean;
  /** What a level is indented with; null: all in one line. */
  readonly indent: string | null;
  readonly separators: readonly [item: string, key: string];
  readonly sortKeys: boolean;
}

export function toJson(value: Value, style: JsonStyle): string {
  return new Writer(style).write(value, "\n");
}

class Writer {
  constructor(readonly style: JsonStyle) {}

  /** @param line what begins a line at the value's level */
  write(value: Value, line: string): string {
    step();
    const text = textOf(value);
    if (text !== null) return this.#quoted(text);
    if (value === null) return "null";
    if (typeof value === "boolean" || typeof value === "number") return String(value);
    if (value instanceof Float) return jsonFloat(value.value);
    if (Array.isArray(value)) {
      return this.#all("[", value, "]", line, (item, inner) => this.write(item, inner));
    }
    if (value instanceof Tuple) {
      return this.#all("[", value.items, "]", line, (item, inner) => this.write(item, inner));
    }
    if (value instanceof Dict) {
      let entries = [...value.entries()];
      if (this.style.sortKeys) entries = entries.sort(([a], [b]) => less(a, b) ? -1 : less(b, a) ? 1 : 0);
      const pair = ([key, entry]: readonly [Value, Value], inner: string) =>
        `${this.#key(key)}${this.style.separators[1]}${this.write(entry, inner)}`;
      return this.#all("{", entries, "}", line, pair);
    }
    return fail(`Object of type ${typeName(value)} is not JSON serializable`);
  }

  #all<T>(
    open: string,
    items: readonly T[],
    close: string,
    line: string,
    write: (item: T, line: string) => string,
  ): string {
    if (items.length === 0) return open + close;
    const { indent, separators: [separator] } = this.style;
    const inner = indent === null ? "" : line + indent;
    return deeper(() => {
      let text = open + inner;
      for (const [i, item] of items.entries()) {
        const part = write(item, inner);
        chargeText(part.length + inner.length + 2);
        text += i === 0 ? part : separator + inner + part;
      }
      return text + (indent === null ? "" : line) + close;
    });
  }

  #key(key: Value): string {
    const text = textOf(key);
    if (text !== null) return this.#quoted(text);
    if (key === null || typeof key === "boolean" || typeof key === "number") return `"${key}"`;
    if (key instanceof Float) return `"${jsonFloat(key.value)}"`;
    return fail(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
  }

  #quoted(text: string): string {
    chargeText(text.length + 2);
    const pattern = this.style.ascii ? /[^ !#-[\]-~]/g : /[^ !#-[\]-\u{10ffff}]/gu;
    return `"${text.replace(pattern, escape)}"`;
  }
}

const SHORT: Readonly<Record<string, string>> = {
  "\\": "\\\\",
  '"': '\\"',
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

function escape(unit: string): string {
  return SHORT[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function jsonFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  return Number.isFinite(value) ? floatText(value) : value > 0 ? "Infinity" : "-Infinity";
}
