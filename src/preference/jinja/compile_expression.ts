/** Expressions become functions: what can be decided from the source is decided once. */
import { attribute, call, item, slice } from "./access.ts";
import type { Arguments, Call, Comparison, Expression, Filter } from "./ast.ts";
import { chargeList, chargeText } from "./budget.ts";
import { contains, equals, iterate, less, lessOrEqual } from "./compare.ts";
import { fail, TemplateError } from "./errors.ts";
import { FILTERS } from "./filters.ts";
import type { Frame } from "./frame.ts";
import { methodOf, UNSAFE } from "./methods.ts";
import { OPERATORS, signed } from "./operators.ts";
import { str } from "./print.ts";
import type { Symbols } from "./scope.ts";
import { TESTS } from "./tests.ts";
import {
  Dict,
  hashOf,
  type Keywords,
  textOf,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

/** Evaluates an expression. */
export type Run = (frame: Frame) => Value;

/** Where an expression stands. */
export interface Place {
  readonly symbols: Symbols;
  /** Whether it may not be run: an unknown filter fails when it is. */
  readonly soft: boolean;
}

const NO_ARGUMENTS: readonly Value[] = [];
const NO_KEYWORDS: Keywords = new Map();

/** @param written what a filter without a value is given */
export function compileExpression(expression: Expression, place: Place, written?: Run): Run {
  const compile = (part: Expression) => compileExpression(part, place);
  switch (expression.kind) {
    case "constant": {
      const { value } = expression;
      return () => value;
    }
    case "name":
      return compileName(expression.name, place);
    case "list":
    case "tuple": {
      const items = expression.items.map(compile);
      const list: (frame: Frame) => readonly Value[] = (frame) => {
        chargeList(items.length);
        return items.map((run) => run(frame));
      };
      return expression.kind === "list" ? list : (frame) => new Tuple(list(frame));
    }
    case "dict": {
      const entries = expression.entries.map(([key, value]) => [compile(key), compile(value)] as const);
      return (frame) => new Dict(entries.map(([key, value]) => [key(frame), value(frame)]));
    }
    case "binary": {
      const work = OPERATORS[expression.operator];
      const [left, right] = [compile(expression.left), compile(expression.right)];
      return (frame) => work(left(frame), right(frame));
    }
    case "and": {
      const [left, right] = [compile(expression.left), compile(expression.right)];
      return (frame) => {
        const value = left(frame);
        return truth(value) ? right(frame) : value;
      };
    }
    case "or": {
      const [left, right] = [compile(expression.left), compile(expression.right)];
      return (frame) => {
        const value = left(frame);
        return truth(value) ? value : right(frame);
      };
    }
    case "unary": {
      const { operator } = expression;
      const of = compile(expression.of);
      return operator === "not" ? (frame) => !truth(of(frame)) : (frame) => signed(operator, of(frame));
    }
    case "concat": {
      const parts = expression.parts.map(compile);
      return (frame) => {
        let text = "";
        for (const part of parts) text += str(part(frame));
        chargeText(text.length);
        return text;
      };
    }
    case "compare":
      return compileComparison(
        compile(expression.first),
        expression.rest.map((link) => [link.operator, compile(link.with)]),
      );
    case "condition": {
      const soft = { ...place, soft: true };
      const test = compileExpression(expression.test, soft);
      const then = compileExpression(expression.then, soft);
      const otherwise = expression.otherwise === null ? null : compileExpression(expression.otherwise, soft);
      return (frame) => {
        if (truth(test(frame))) return then(frame);
        if (otherwise !== null) return otherwise(frame);
        return new Undefined("the inline if-expression evaluated to false and no else section was defined.");
      };
    }
    case "attribute":
      return compileAttribute(compile(expression.of), expression.name);
    case "item": {
      const of = compile(expression.of);
      if (expression.key.kind === "constant" && typeof expression.key.value === "string") {
        const key = expression.key.value;
        return (frame) => {
          const value = of(frame);
          if (value instanceof Dict) {
            const entry = value.get(key);
            if (entry !== undefined) return entry;
          }
          return item(value, key);
        };
      }
      const key = compile(expression.key);
      return (frame) => item(of(frame), key(frame));
    }
    case "slice": {
      const of = compile(expression.of);
      const [start, stop, step] = [expression.start, expression.stop, expression.step].map((part) =>
        part === null ? () => null : compile(part)
      ) as [Run, Run, Run];
      return (frame) => slice(of(frame), start(frame), stop(frame), step(frame));
    }
    case "call":
      return compileCall(expression, place);
    case "filter":
      return compileFilter(expression, place, written);
    case "test": {
      const test = TESTS.get(expression.name) ?? aboutNames(expression.name);
      const of = compile(expression.of);
      if (test === undefined) return unknown("test", expression.name, place);
      const args = compileArguments(expression.args, place);
      if (args === null) return (frame) => test(of(frame), NO_ARGUMENTS, NO_KEYWORDS);
      return (frame) => {
        const value = of(frame);
        return test(value, args.positional(frame), args.keywords(frame));
      };
    }
  }
}

/** `'upper' is filter`. */
function aboutNames(name: string): ((value: Value) => boolean) | undefined {
  if (name === "filter") return (value) => hashOf(value) !== undefined && FILTERS.has(textOf(value) ?? "");
  if (name === "test") {
    return (value) =>
      hashOf(value) !== undefined && TESTS.has(textOf(value) ?? "") || value === "filter" || value === "test";
  }
  return undefined;
}

function compileName(name: string, { symbols }: Place): Run {
  const variable = symbols.get(name);
  const hops = symbols.scope.hops(variable);
  const { index } = variable;
  const message = `'${name}' is undefined`;
  return (frame) => {
    const value = (hops === 0 ? frame : frame.out(hops)).slots[index];
    return value === undefined ? new Undefined(message) : value;
  };
}

function compileAttribute(of: Run, name: string): Run {
  const isKey = !name.startsWith("__") && methodOf("dict", name) === undefined && !UNSAFE["dict"]!.has(name);
  if (!isKey) return (frame) => attribute(of(frame), name);
  return (frame) => {
    const value = of(frame);
    if (value instanceof Dict) {
      const entry = value.get(name);
      if (entry !== undefined) return entry;
    }
    return attribute(value, name);
  };
}

function compileComparison(first: Run, rest: readonly (readonly [Comparison["operator"], Run])[]): Run {
  const links = rest.map(([operator, run]) => [COMPARE[operator], run] as const);
  if (links.length === 1) {
    const [compare, other] = links[0]!;
    return (frame) => compare(first(frame), other(frame));
  }
  return (frame) => {
    let left = first(frame);
    for (const [compare, run] of links) {
      const right = run(frame);
      if (!compare(left, right)) return false;
      left = right;
    }
    return true;
  };
}

const COMPARE: Readonly<Record<Comparison["operator"], (a: Value, b: Value) => boolean>> = {
  "==": equals,
  "!=": (a, b) => !equals(a, b),
  "<": (a, b) => less(a, b),
  "<=": (a, b) => lessOrEqual(a, b),
  ">": (a, b) => less(b, a, ">"),
  ">=": (a, b) => lessOrEqual(b, a, ">="),
  in: (a, b) => contains(b, a),
  "not in": (a, b) => !contains(b, a),
};

/** @param more further arguments by name */
export function compileCall({ callee, args }: Call, place: Place, more?: (frame: Frame) => Keywords): Run {
  const run = compileExpression(callee, place);
  const own = compileArguments(args, place);
  if (own === null && more === undefined) return (frame) => call(run(frame), NO_ARGUMENTS, NO_KEYWORDS);
  return (frame) => {
    const callee = run(frame);
    const positional = own?.positional(frame) ?? NO_ARGUMENTS;
    const keywords = own?.keywords(frame) ?? NO_KEYWORDS;
    return call(callee, positional, more === undefined ? keywords : new Map([...keywords, ...more(frame)]));
  };
}

function compileFilter({ name, of, args }: Filter, place: Place, written?: Run): Run {
  const filter = FILTERS.get(name);
  const value = of === null ? written! : compileExpression(of, place, written);
  const own = compileArguments(args, place);
  if (filter === undefined) return unknown("filter", name, place);
  if (own === null) return (frame) => filter(value(frame), NO_ARGUMENTS, NO_KEYWORDS);
  return (frame) => {
    const given = value(frame);
    return filter(given, own.positional(frame), own.keywords(frame));
  };
}

/** @throws {TemplateError} at once, or when it is run where that need not be */
function unknown(what: string, name: string, { soft }: Place): Run {
  if (!soft) throw new TemplateError(`No ${what} named '${name}'.`);
  return () => fail(`No ${what} named '${name}' found.`);
}

interface CompiledArguments {
  readonly positional: (frame: Frame) => readonly Value[];
  readonly keywords: (frame: Frame) => Keywords;
}

/** @returns null where there are none */
function compileArguments(
  { positional, keywords, rest, more }: Arguments,
  place: Place,
): CompiledArguments | null {
  if (positional.length + keywords.length === 0 && rest === null && more === null) return null;
  const places = positional.map((part) => compileExpression(part, place));
  const named = keywords.map(([name, part]) => [name, compileExpression(part, place)] as const);
  const others = rest === null ? null : compileExpression(rest, place);
  const further = more === null ? null : compileExpression(more, place);
  return {
    positional: (frame) => {
      const values = places.map((run) => run(frame));
      if (others === null) return values;
      for (const value of iterate(others(frame))) {
        chargeList(1);
        values.push(value);
      }
      return values;
    },
    keywords: named.length === 0 && further === null ? () => NO_KEYWORDS : (frame) => {
      const values = new Map<string, Value>(named.map(([name, run]) => [name, run(frame)]));
      if (further === null) return values;
      const added = further(frame);
      if (!(added instanceof Dict)) {
        return fail(`argument after ** must be a mapping, not ${typeName(added)}`);
      }
      for (const [key, value] of added.entries()) {
        const name = textOf(key) ?? fail("keywords must be strings");
        if (values.has(name)) fail(`got multiple values for keyword argument '${name}'`);
        chargeList(1);
        values.set(name, value);
      }
      return values;
    },
  };
}
