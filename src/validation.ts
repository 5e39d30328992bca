/** Says what a schema refused in the user's terms. */
import { z } from "zod";
import { InputError } from "./errors.ts";
import { show } from "./json.ts";

type Issue = z.core.$ZodIssue;

/**
 * Types a value, or names the first thing that is wrong with it.
 *
 * @throws InputError with the field, its value and what would be accepted
 *
 * @example A number that is too small
 * ```ts
 * import assert from "node:assert/strict";
 * import { parseWith } from "./validation.ts";
 * import { z } from "zod";
 * const schema = z.object({ beta: z.number().positive() });
 * assert.throws(() => parseWith(schema, { beta: -1 }), { name: "InputError", message: /^beta must be .*, not -1\.$/ });
 * ```
 */
export function parseWith<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw inputErrorOf(result.error, value, schema);
}

/**
 * An object whose unknown fields are refused by name. `known` ends up in the error, so that a misspelt field is put right
 * without a look at the documentation.
 */
export function strictObject<Shape extends z.core.$ZodLooseShape>(
  shape: Shape,
): z.ZodObject<Shape, z.core.$strict> {
  const known = Object.keys(shape).join(", ");
  return z.strictObject(shape, { error: (issue) => issue.code === "unrecognized_keys" ? known : undefined });
}

/** Refuses a field in a schema's `superRefine`, in a whole sentence. */
export function refuseField(
  context: z.core.$RefinementCtx,
  path: string[],
  message: string,
  accepted: string,
): void {
  context.addIssue({ code: "custom", path, message, params: { accepted } });
}

/**
 * The first issue as an error of ours. A custom issue's message is a sentence, or with `params.predicate` what comes behind
 * the field's name; its `params.accepted` is what would be accepted.
 *
 * @param value what was parsed
 * @param schema what it was parsed by; without it the error does not say where null would be accepted
 */
export function inputErrorOf(error: z.core.$ZodError, value: unknown, schema?: z.ZodType): InputError {
  // Zod says first that a number is too far out to be whole at all: the field's own bound comes behind that.
  const issue = innermost(error.issues.find((issue) => !("note" in issue)) ?? error.issues[0]);
  if (issue === undefined) throw new TypeError("A Zod error without an issue.");
  const path = issue.path as (string | number)[]; // no schema has symbols as keys
  if (issue.code === "unrecognized_keys") {
    const unknown = [...path, issue.keys[0] ?? ""];
    return new InputError((field) => `${field} is not a known field; known are ${issue.message}.`, {
      path: unknown,
      value: valueAt(value, unknown),
      accepted: issue.message,
    });
  }
  if (issue.code === "invalid_key") {
    const [wrong] = issue.issues;
    const accepted = wrong === undefined ? issue.message : acceptedBy(wrong);
    return new InputError((field) => `${field} has a name that must be ${accepted}.`, {
      path,
      value: path.at(-1),
      accepted,
    });
  }
  const found = valueAt(value, path);
  if (issue.code === "custom") {
    const accepted = issue.params?.["accepted"];
    const { message } = issue;
    const sentence = issue.params?.["predicate"] === true
      ? (field: string) => `${field} ${message}`
      : message;
    return new InputError(sentence, {
      path,
      value: found,
      ...(typeof accepted === "string" ? { accepted } : {}),
    });
  }
  const accepted = acceptedBy(issue) +
    (schema !== undefined && takesNull(schema, value, path) ? " or null" : "");
  const sentence = (field: string) =>
    found === undefined
      ? `${field} is missing: give ${accepted}.`
      : `${field} must be ${accepted}, not ${show(found)}.`;
  return new InputError(sentence, { path, value: found, accepted });
}

/**
 * Of a union the issue of the one member that the value got deepest into: it is what the value was meant to be. As it is
 * where no member is deeper than the others.
 */
function innermost(issue: Issue | undefined): Issue | undefined {
  if (issue?.code !== "invalid_union") return issue;
  const members = issue.errors.flatMap(([first]) => {
    const inner = innermost(first);
    return inner ? [{ ...inner, path: [...issue.path, ...inner.path] }] : [];
  });
  const depth = Math.max(...members.map(({ path }) => path.length));
  const [deepest, other] = members.filter(({ path }) => path.length === depth);
  // What is too long for one of the members is of its kind.
  const tooBig = members.find(({ path, code }) => path.length === depth && code === "too_big");
  if (tooBig !== undefined) return tooBig;
  return other === undefined && deepest && depth > issue.path.length ? deepest : issue;
}

/** What would be accepted where an issue stands, as a phrase. Unions carry theirs as the message. */
function acceptedBy(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return typeNames[issue.expected] ?? issue.expected;
    case "invalid_value":
      return issue.values.map((value) => JSON.stringify(value)).join(" | ");
    case "too_small":
      return amount(
        issue.origin,
        issue.inclusive === false ? "more than" : "at least",
        Number(issue.minimum),
      );
    case "too_big":
      return amount(issue.origin, issue.inclusive === false ? "less than" : "at most", Number(issue.maximum));
    case "invalid_union":
      return "options" in issue && Array.isArray(issue.options)
        ? issue.options.map((option) => JSON.stringify(option)).join(" | ")
        : issue.message;
    default:
      return issue.message;
  }
}

/** Whether null would be accepted in a place. An issue does not know of it, so it is tried. */
function takesNull(schema: z.ZodType, value: unknown, path: readonly PropertyKey[]): boolean {
  if (path.length === 0 || valueAt(value, path) === undefined) return false;
  const { error } = schema.safeParse(withNull(value, path));
  return !error?.issues.some((issue) => issue.path.every((key, i) => key === path[i]));
}

/** A copy with null in a place. */
function withNull(value: unknown, [key, ...rest]: readonly PropertyKey[]): unknown {
  if (key === undefined) return null;
  const copy: object = Array.isArray(value) ? [...value] : { ...value as object };
  return Object.assign(copy, { [key]: withNull(valueAt(value, [key]), rest) });
}

const typeNames: Readonly<Record<string, string>> = {
  string: "a string",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "an object",
  record: "an object",
  array: "a list",
};

function amount(origin: string, relation: string, bound: number): string {
  if (origin === "string") return `a string of ${relation} ${bound} character${bound === 1 ? "" : "s"}`;
  if (origin === "array") return `a list of ${relation} ${bound} item${bound === 1 ? "" : "s"}`;
  if (origin === "object") return `an object of ${relation} ${bound} field${bound === 1 ? "" : "s"}`;
  return `${origin === "int" ? "a whole number" : "a number"} of ${relation} ${bound}`;
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (at, key) =>
      typeof at === "object" && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined,
    value,
  );
}
