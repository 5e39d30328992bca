/** `str.format`: fields in braces, with attributes, items and a format. */
import { attribute, item } from "./access.ts";
import { chargeText, deeper, step } from "./budget.ts";
import { fail, UnsupportedError } from "./errors.ts";
import { format } from "./format_spec.ts";
import { repr, str } from "./print.ts";
import type { Keywords, Value } from "./values.ts";

/** @throws {TemplateError} where a field is missing, or the text is no format */
export function strFormat(text: string, args: readonly Value[], keywords: Keywords): string {
  return new Fields(args, keywords).write(text, 2);
}

class Fields {
  /** Number of the next field without a name; null where fields are numbered. */
  #next: number | null | undefined;

  constructor(readonly args: readonly Value[], readonly keywords: Keywords) {}

  /** @param levels fields within formats of fields that are allowed */
  write(text: string, levels: number): string {
    if (levels < 0) fail("Max string recursion exceeded");
    return deeper(() => {
      let result = "";
      const add = (part: string) => {
        step();
        chargeText(part.length);
        result += part;
      };
      let at = 0;
      while (at < text.length) {
        const brace = nextBrace(text, at);
        add(text.slice(at, brace));
        if (brace === text.length) break;
        if (text[brace] === text[brace + 1]) {
          add(text[brace]!);
          at = brace + 2;
          continue;
        }
        if (text[brace] === "}") fail("Single '}' encountered in format string");
        const end = fieldEnd(text, brace + 1);
        add(this.#field(text.slice(brace + 1, end), levels));
        at = end + 1;
      }
      return result;
    });
  }

  #field(field: string, levels: number): string {
    // a conversion or format ends the name, but not within brackets
    const [, path, conversion, spec = ""] =
      /^((?:[^[!:]|\[[^\]]*\]?)*)(?:!([^:]*))?(?::([^]*))?$/.exec(field) ??
        fail("expected ':' after conversion specifier");
    let value = this.#value(path!);
    if (conversion !== undefined) {
      if (conversion === "r") value = repr(value);
      else if (conversion === "s") value = str(value);
      else if (conversion === "a") throw new UnsupportedError("!a in a format");
      else fail(`Unknown conversion specifier '${conversion}'`);
    }
    return format(value, spec.includes("{") || spec.includes("}") ? this.write(spec, levels - 1) : spec);
  }

  #value(path: string): Value {
    const first = /^[^.[]*/.exec(path)![0];
    let value = this.#first(first, path);
    let at = first.length;
    while (at < path.length) {
      if (path[at] === ".") {
        const name = /^[^.[]*/.exec(path.slice(at + 1))![0];
        if (name === "") fail("Empty attribute in format string");
        value = attribute(value, name);
        at += 1 + name.length;
      } else if (path[at] === "[") {
        const end = path.indexOf("]", at);
        if (end === -1) fail("Missing ']' in format string");
        const key = path.slice(at + 1, end);
        if (key === "") fail("Empty attribute in format string");
        value = item(value, /^\d+$/.test(key) ? Number(key) : key);
        at = end + 1;
      } else fail("Only '.' or '[' may follow ']' in format field specifier");
    }
    return value;
  }

  #first(name: string, path: string): Value {
    const automatic = path === "";
    if (!automatic && !/^\d+$/.test(name)) {
      const value = this.keywords.get(name);
      return value === undefined ? fail(`'${name}'`) : value;
    }
    if (automatic ? this.#next === null : path === name && typeof this.#next === "number") {
      fail("cannot switch between manual field specification and automatic field numbering");
    }
    const index = automatic ? this.#next ?? 0 : Number(name);
    if (automatic || path === name) this.#next = automatic ? index + 1 : null;
    if (index >= this.args.length) fail(`Replacement index ${index} out of range for positional args tuple`);
    return this.args[index]!;
  }
}

function nextBrace(text: string, from: number): number {
  for (let at = from; at < text.length; at++) if (text[at] === "{" || text[at] === "}") return at;
  return text.length;
}

function fieldEnd(text: string, from: number): number {
  let open = 1;
  let isPath = true;
  for (let at = from; at < text.length; at++) {
    if (text[at] === ":") isPath = false;
    else if (text[at] === "[" && isPath) {
      const end = text.indexOf("]", at);
      if (end !== -1) at = end;
    } else if (text[at] === "{") open++;
    else if (text[at] === "}" && --open === 0) return at;
  }
  return fail("expected '}' before end of string");
}
