import { bind, type Parameter } from "./arguments.ts";
import type { Keywords, Value } from "./values.ts";

/** A filter, test or method: what it is given or belongs to, then the arguments of the call. */
export type Builtin<Result extends Value = Value> = (
  self: Value,
  args: readonly Value[],
  keywords: Keywords,
) => Result;

/** A filter, test or method by its name. @typeParam Self what it is for: whoever calls it has looked */
export function builtin<Self extends Value = Value, Result extends Value = Value>(
  name: string,
  parameters: readonly Parameter[],
  work: (self: Self, ...args: Value[]) => Result,
): [string, Builtin<Result>] {
  if (parameters.length === 0) {
    return [name, (self, args, keywords) => {
      if (args.length > 0 || keywords.size > 0) bind(name, parameters, args, keywords);
      return work(self as Self);
    }];
  }
  return [name, (self, args, keywords) => work(self as Self, ...bind(name, parameters, args, keywords))];
}
