import { fail } from "./errors.ts";
import { intOf, type Keywords, textOf, typeName, Undefined, type Value } from "./values.ts";

/** A parameter's name, with its default where it has one; without a name it is given by place alone. */
export type Parameter = string | readonly [name: string, otherwise: Value];

/** Puts arguments in the order of parameters, as Python binds them. @throws {TemplateError} where it would not */
export function bind(
  name: string,
  parameters: readonly Parameter[],
  args: readonly Value[],
  keywords: Keywords,
): Value[] {
  if (args.length > parameters.length) {
    fail(`${name}() takes at most ${parameters.length} arguments (${args.length} given)`);
  }
  if (keywords.size === 0 && args.length === parameters.length) return args as Value[];
  let used = 0;
  const bound = parameters.map((parameter, i) => {
    const [key, otherwise] = typeof parameter === "string" ? [parameter, undefined] : parameter;
    const given = key === "" ? undefined : keywords.get(key);
    if (given !== undefined) used++;
    if (i < args.length) {
      if (given !== undefined) fail(`${name}() got multiple values for argument '${key}'`);
      return args[i]!;
    }
    if (given !== undefined) return given;
    if (otherwise !== undefined) return otherwise;
    return fail(`${name}() missing a required argument${key && `: '${key}'`}`);
  });
  if (used < keywords.size) {
    const names = parameters.map((parameter) => typeof parameter === "string" ? parameter : parameter[0]);
    for (const key of keywords.keys()) {
      if (key === "" || !names.includes(key)) fail(`${name}() got an unexpected keyword argument '${key}'`);
    }
  }
  return bound;
}

/** An argument that must be an int. */
export function intArgument(value: Value): number {
  if (value instanceof Undefined) fail(value.message);
  return intOf(value) ?? fail(`'${typeName(value)}' object cannot be interpreted as an integer`);
}

/** An argument that must be a text. */
export function textArgument(value: Value): string {
  if (value instanceof Undefined) fail(value.message);
  return textOf(value) ?? fail(`a str is expected, not ${typeName(value)}`);
}

/** An argument that must be a text or None. */
export function textOrNone(value: Value): string | null {
  return value === null ? null : textArgument(value);
}
