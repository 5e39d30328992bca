/** What expressions and statements are made of, node by node. */
import type { Arguments, Expression, Statement, Target } from "./ast.ts";

/** Names that an expression reads. */
export function* namesIn(expression: Expression): Generator<string> {
  if (expression.kind === "name") yield expression.name;
  else for (const part of partsOf(expression)) yield* namesIn(part);
}

/** Number of nodes of an expression. */
export function sizeOf(expression: Expression): number {
  let size = 1;
  for (const part of partsOf(expression)) size += sizeOf(part);
  return size;
}

function partsOf(expression: Expression): readonly Expression[] {
  const given = (...parts: (Expression | null)[]) => parts.filter((part) => part !== null);
  switch (expression.kind) {
    case "constant":
    case "name":
      return [];
    case "list":
    case "tuple":
      return expression.items;
    case "dict":
      return expression.entries.flat();
    case "binary":
    case "and":
    case "or":
      return [expression.left, expression.right];
    case "unary":
    case "attribute":
      return [expression.of];
    case "concat":
      return expression.parts;
    case "compare":
      return [expression.first, ...expression.rest.map((link) => link.with)];
    case "condition":
      return given(expression.test, expression.then, expression.otherwise);
    case "item":
      return [expression.of, expression.key];
    case "slice":
      return given(expression.of, expression.start, expression.stop, expression.step);
    case "call":
      return [expression.callee, ...argumentsOf(expression.args)];
    case "filter":
    case "test":
      return [...given(expression.of), ...argumentsOf(expression.args)];
  }
}

function argumentsOf({ positional, keywords, rest, more }: Arguments): Expression[] {
  return [...positional, ...keywords.map(([, value]) => value), rest, more].filter((part) => part !== null);
}

/** Which of some names statements read before they set them, whatever block they stand in. */
export function undeclared(statements: readonly Statement[], names: readonly string[]): Set<string> {
  const wanted = new Set(names);
  const found = new Set<string>();
  const set = (target: Target) => {
    if (target.kind === "name") wanted.delete(target.name);
    else if (target.kind === "tuple") target.items.forEach(set);
  };
  const read = (...parts: (Expression | readonly Statement[] | null | string)[]) => {
    for (const part of parts) {
      if (Array.isArray(part)) part.forEach(walk);
      else if (part !== null && typeof part === "object") {
        for (const name of namesIn(part as Expression)) if (wanted.has(name)) found.add(name);
      }
    }
  };
  const walk = (statement: Statement) => {
    switch (statement.kind) {
      case "output":
        read(...statement.parts);
        break;
      case "for":
        set(statement.target);
        read(statement.over, statement.body, statement.otherwise, statement.test);
        break;
      case "if":
        for (const { test, body } of [statement, ...statement.elifs]) read(test, body);
        read(statement.otherwise);
        break;
      case "set":
        set(statement.target);
        read(statement.value);
        break;
      case "set block":
        set(statement.target);
        read(statement.filter, statement.body);
        break;
      case "with":
        for (const [target] of statement.sets) set(target);
        read(...statement.sets.map(([, value]) => value), statement.body);
        break;
      case "macro":
      case "call block":
        if (statement.kind === "call block") read(statement.call);
        for (const { name } of statement.parameters) wanted.delete(name);
        read(...statement.parameters.map(({ otherwise }) => otherwise), statement.body);
        break;
      case "filter block":
        read(statement.body, statement.filter);
    }
  };
  statements.forEach(walk);
  return found;
}
