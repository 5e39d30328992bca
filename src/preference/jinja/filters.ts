/** What may stand behind `|`. */
import { NUMBER_FILTERS } from "./number_filters.ts";
import { SEQUENCE_FILTERS } from "./sequence_filters.ts";
import { TEXT_FILTERS } from "./text_filters.ts";
import type { Builtin } from "./_builtin.ts";
import { UnsupportedError } from "./errors.ts";

const unsupported = (name: string): [string, Builtin] => [name, () => {
  throw new UnsupportedError(`the filter ${name}`);
}];

/** Filters by name, those of Jinja2 that are refused among them: they exist, and a template may ask whether they do. */
export const FILTERS: ReadonlyMap<string, Builtin> = new Map([
  ...TEXT_FILTERS,
  ...NUMBER_FILTERS,
  ...SEQUENCE_FILTERS,
  unsupported("pprint"),
  unsupported("random"),
  unsupported("urlize"),
]);
