/** A loop becomes a function. */
import type { For } from "./ast.ts";
import { type Block, type CompileBody, type Execute, type Flow, inner } from "./block.ts";
import { step } from "./budget.ts";
import { iterate } from "./compare.ts";
import { compileExpression } from "./compile_expression.ts";
import { compileTarget } from "./compile_target.ts";
import { calledText, Frame, write } from "./frame.ts";
import { Loop } from "./instances.ts";
import { FunctionScope } from "./scope.ts";
import { Stream, truth, type Value } from "./values.ts";
import { sizeOf } from "./walk.ts";

/** @param compileBody compiles the loop's body and its `else` */
export function compileFor(node: For, block: Block, compileBody: CompileBody): Execute {
  const scope = node.recursive ? new FunctionScope(block.symbols.scope) : block.symbols.scope;
  const { place, enter, leave, found: loopVariable } = inner({ ...block, inLoop: true }, (symbols) => {
    const variable = node.recursive || node.usesLoop ? symbols.declare("loop") : null;
    symbols.target(node.target, true);
    symbols.body(node.body);
    return variable;
  }, scope);
  const assign = compileTarget(node.target, place);
  const body = compileBody(node.body, place);
  const otherwise = compileElse(node, block, compileBody, scope);
  const over = compileExpression(node.over, block);
  const keep = compileLoopFilter(node, block);
  const size = sizeOf(node.over);

  /** Goes through the entries. @param outer the frame around the loop */
  const loop = (frame: Frame, outer: Frame, value: Value, recurse: Loop["recurse"], depth0: number): Flow => {
    const entries = keep === null ? value : keep(outer, value);
    let isEmpty = true;
    const round = (entry: Value): Flow => {
      step();
      assign(frame, entry);
      enter(frame);
      const flow = body(frame);
      if (flow === "next") isEmpty = false;
      return flow;
    };
    if (loopVariable === null) {
      for (const entry of iterate(entries)) if (round(entry) === "break") break;
    } else {
      const context = new Loop(entries, recurse, depth0);
      for (let entry = context.next(); entry !== undefined; entry = context.next()) {
        frame.slots[loopVariable.index] = context;
        if (round(entry) === "break") break;
      }
    }
    leave(frame);
    return isEmpty && otherwise !== null ? otherwise(frame) : "next";
  };

  if (!node.recursive) {
    return (frame) => {
      step(size);
      return loop(frame, frame, over(frame), null, 0);
    };
  }
  return (outer) => {
    step(size);
    const recurse = (value: Value, depth0: number): string =>
      calledText(outer, scope.size, (frame) => loop(frame, outer, value, recurse, depth0));
    write(outer.rendering, recurse(over(outer), 0));
    return "next";
  };
}

function compileElse(
  { otherwise, recursive }: For,
  block: Block,
  compileBody: CompileBody,
  scope: FunctionScope,
): Execute | null {
  if (otherwise.length === 0) return null;
  const { place, enter, leave } = inner(
    { ...block, inLoop: block.inLoop && !recursive },
    (symbols) => symbols.body(otherwise),
    scope,
  );
  const execute = compileBody(otherwise, place);
  return (frame) => {
    enter(frame);
    const flow = execute(frame);
    if (flow === "next") leave(frame);
    return flow;
  };
}

/** The entries that pass a loop's `if`: a function of its own, which sees the loop's names and no `loop`. */
function compileLoopFilter(
  { target, test }: For,
  block: Block,
): ((outer: Frame, value: Value) => Value) | null {
  if (test === null) return null;
  const scope = new FunctionScope(block.symbols.scope);
  const { place, enter } = inner({ ...block, inLoop: false }, (symbols) => {
    symbols.target(target, true);
    symbols.expression(test);
  }, scope);
  const assign = compileTarget(target, place);
  const run = compileExpression(test, place);
  const size = sizeOf(test);
  function* passing(outer: Frame, value: Value): Generator<Value> {
    const frame = new Frame(outer.rendering, outer, scope.size);
    enter(frame);
    for (const entry of iterate(value)) {
      step(size);
      assign(frame, entry);
      if (truth(run(frame))) yield entry;
    }
  }
  return (outer, value) => new Stream("generator", passing(outer, value));
}
