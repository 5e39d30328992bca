import { bind, type Parameter } from "./arguments.ts";
import type { Keywords, Value } from "./values.ts";

export type Filter = (value: Value, args: readonly Value[], keywords: Keywords) => Value;

/** A filter with parameters behind the value that it is given. */
export function filter(
  name: string,
  parameters: readonly Parameter[],
  work: (value: Value, ...args: Value[]) => Value,
): [string, Filter] {
  if (parameters.length === 0) {
    return [name, (value, args, keywords) => {
      if (args.length > 0 || keywords.size > 0) bind(name, parameters, args, keywords);
      return work(value);
    }];
  }
  return [name, (value, args, keywords) => work(value, ...bind(name, parameters, args, keywords))];
}
