/** Methods that a template may call, by the type of what has them. */
import { DICT_METHODS, LIST_METHODS, TUPLE_METHODS } from "./container_methods.ts";
import { STR_METHODS } from "./str_methods.ts";
import type { Keywords, Value } from "./values.ts";

export type Method = (self: Value, args: readonly Value[], keywords: Keywords) => Value;

/** A method by its name. The tables are asked when one is called for: formats, which are methods, look up attributes. */
export function methodOf(type: string, name: string): Method | undefined {
  switch (type) {
    case "str":
      return STR_METHODS.get(name);
    case "list":
      return LIST_METHODS.get(name);
    case "tuple":
      return TUPLE_METHODS.get(name);
    case "dict":
      return DICT_METHODS.get(name);
  }
  return undefined;
}

/** What would change a value: the sandbox gives something undefined for it. */
export const UNSAFE: Readonly<Record<string, ReadonlySet<string>>> = {
  list: new Set(["append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"]),
  dict: new Set(["clear", "pop", "popitem", "setdefault", "update"]),
};

/** Attributes that Python has and this engine does not: refused by name where a template asks for one. */
export const UNSUPPORTED_ATTRIBUTES: Readonly<Record<string, ReadonlySet<string>>> = {
  str: new Set(["encode", "maketrans", "translate"]),
  int: new Set([
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "conjugate",
    "denominator",
    "from_bytes",
    "imag",
    "to_bytes",
  ]),
  bool: new Set([
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "conjugate",
    "denominator",
    "from_bytes",
    "imag",
    "to_bytes",
  ]),
  float: new Set(["as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer"]),
  range: new Set(["count", "index"]),
  dict_keys: new Set(["isdisjoint", "mapping"]),
  dict_values: new Set(["mapping"]),
  dict_items: new Set(["isdisjoint", "mapping"]),
  generator: new Set(["close", "send", "throw", "gi_frame", "gi_code", "gi_running", "gi_yieldfrom"]),
  Markup: new Set([
    ..."capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha"
      .split(" "),
    ..."isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust"
      .split(" "),
    ..."lower lstrip maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit"
      .split(" "),
    ..."rstrip split splitlines startswith strip swapcase title translate upper zfill escape striptags unescape"
      .split(" "),
  ]),
};
