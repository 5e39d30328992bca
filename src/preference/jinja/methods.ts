/** Methods that a template may call, by the type of what has them. */
import type { Builtin } from "./_builtin.ts";
import { DICT_METHODS, LIST_METHODS, TUPLE_METHODS } from "./container_methods.ts";
import { STR_METHODS } from "./str_methods.ts";

/** A method by its name. The tables are asked when one is called for: formats, which are methods, look up attributes. */
export function methodOf(type: string, name: string): Builtin | undefined {
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

const names = (list: string): ReadonlySet<string> => new Set(list.split(" "));

/** What would change a value: the sandbox gives something undefined for it. */
export const UNSAFE: Readonly<Record<string, ReadonlySet<string>>> = {
  list: names("append clear pop reverse insert sort extend remove"),
  dict: names("clear pop popitem setdefault update"),
};

const INT = names("as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag to_bytes");

/** Attributes that Python has and this engine does not: refused by name where a template asks for one. */
export const UNSUPPORTED_ATTRIBUTES: Readonly<Record<string, ReadonlySet<string>>> = {
  str: names("encode maketrans translate"),
  int: INT,
  bool: INT,
  float: names("as_integer_ratio conjugate fromhex hex imag is_integer"),
  range: names("count index"),
  dict_keys: names("isdisjoint mapping"),
  dict_values: names("mapping"),
  dict_items: names("isdisjoint mapping"),
  generator: names("close send throw gi_frame gi_code gi_running gi_yieldfrom"),
  Markup: names(
    "capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha " +
      "isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust " +
      "lower lstrip maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit " +
      "rstrip split splitlines startswith strip swapcase title translate upper zfill escape striptags unescape",
  ),
};
