/** What a template assigns to becomes functions. */
import type { Target } from "./ast.ts";
import { iterate } from "./compare.ts";
import { compileExpression, type Place } from "./compile_expression.ts";
import { fail } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { Namespace } from "./instances.ts";
import { Undefined, type Value } from "./values.ts";

export type Assign = (frame: Frame, value: Value) => void;

/** `ns.field = …` is for namespaces alone; it is looked at before the value is. */
export function compileFieldCheck(target: Target, place: Place): (frame: Frame) => void {
  if (target.kind === "name") return () => {};
  if (target.kind === "tuple") {
    const checks = target.items.map((item) => compileFieldCheck(item, place));
    return (frame) => checks.forEach((check) => check(frame));
  }
  const run = compileExpression({ kind: "name", name: target.namespace }, place);
  return (frame) => {
    if (!(run(frame) instanceof Namespace)) fail("cannot assign attribute on non-namespace object");
  };
}

/** Assigns to a name, a namespace's field or several of them. */
export function compileTarget(target: Target, place: Place): Assign {
  if (target.kind === "field") {
    const run = compileExpression({ kind: "name", name: target.namespace }, place);
    return (frame, value) => {
      const namespace = run(frame);
      if (!(namespace instanceof Namespace)) return fail("cannot assign attribute on non-namespace object");
      namespace.set(target.name, value);
    };
  }
  if (target.kind === "name") {
    const variable = place.symbols.get(target.name);
    const hops = place.symbols.scope.hops(variable);
    return (frame, value) => {
      frame.out(hops).slots[variable.index] = value;
    };
  }
  const assigns = target.items.map((item) => compileTarget(item, place));
  return (frame, value) => {
    if (value instanceof Undefined && assigns.length > 0) fail("not enough values to unpack");
    const values: Value[] = [];
    for (const item of iterate(value)) {
      if (values.length === assigns.length) fail(`too many values to unpack (expected ${assigns.length})`);
      values.push(item);
    }
    if (values.length < assigns.length) {
      fail(`not enough values to unpack (expected ${assigns.length}, got ${values.length})`);
    }
    assigns.forEach((assign, i) => assign(frame, values[i]!));
  };
}
