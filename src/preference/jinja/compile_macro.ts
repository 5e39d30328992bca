/** A macro, or the body of a call block, becomes a function that a template can call. */
import { call } from "./access.ts";
import type { CallBlock, Macro, Parameter } from "./ast.ts";
import { type Block, type CompileBody, type Execute, inner } from "./block.ts";
import { step } from "./budget.ts";
import { compileCall, compileExpression, type Run } from "./compile_expression.ts";
import { fail } from "./errors.ts";
import { calledText, type Frame, write } from "./frame.ts";
import { str } from "./print.ts";
import { FunctionScope } from "./scope.ts";
import { Callable, Dict, type Keywords, Tuple, Undefined, type Value } from "./values.ts";
import { undeclared } from "./walk.ts";

/** Makes a macro where it is defined. @param compileBody compiles its body */
export function compileMacro(
  { name, parameters, body }: { name: string | null; parameters: readonly Parameter[]; body: Macro["body"] },
  block: Block,
  compileBody: CompileBody,
): (frame: Frame) => Callable {
  const used = undeclared(body, ["caller", "kwargs", "varargs"]);
  const given = (special: string) => parameters.some((parameter) => parameter.name === special);
  const ownCaller = parameters.findIndex((parameter) => parameter.name === "caller");
  if (used.has("caller") && ownCaller !== -1 && parameters[ownCaller]!.otherwise === null) {
    fail(
      'When defining macros or call blocks the special "caller" argument must be omitted or be given a default.',
    );
  }
  const scope = new FunctionScope(block.symbols.scope);
  const { place, enter, found } = inner({ ...block, inLoop: false }, (symbols) => {
    const analyse = () => {
      symbols.parameters(parameters);
      symbols.body(body);
    };
    analyse();
    const special = (name: string) => used.has(name) && !given(name) ? symbols.declare(name).index : null;
    const indices = [special("caller"), special("kwargs"), special("varargs")] as const;
    analyse();
    return indices;
  }, scope);
  const [caller, kwargs, varargs] = found;
  const slots = parameters.map((parameter) => {
    const { index } = place.symbols.get(parameter.name);
    const otherwise: Run = parameter.otherwise === null
      ? () => new Undefined(`parameter '${parameter.name}' was not provided`)
      : compileExpression(parameter.otherwise, place);
    return { name: parameter.name, index, otherwise };
  });
  const execute = compileBody(body, place);

  /** Puts arguments into the frame as Python's `Macro` does. */
  const bind = (frame: Frame, args: readonly Value[], given: Keywords): void => {
    const keywords = new Map(given);
    slots.forEach(({ name, index }, i) => {
      frame.slots[index] = i < args.length ? args[i] : keywords.get(name);
      if (i >= args.length) keywords.delete(name);
    });
    if (caller !== null) {
      frame.slots[caller] = keywords.get("caller") ?? new Undefined("No caller defined");
      keywords.delete("caller");
    }
    if (kwargs !== null) frame.slots[kwargs] = new Dict(keywords);
    else if (keywords.size > 0) {
      fail(`macro '${name}' takes no keyword argument '${[...keywords.keys()][0]}'`);
    }
    if (varargs !== null) frame.slots[varargs] = new Tuple(args.slice(slots.length));
    else if (args.length > slots.length) {
      fail(`macro '${name}' takes not more than ${slots.length} argument(s)`);
    }
  };
  const attributes = new Map<string, Value>([
    ["name", name],
    ["arguments", new Tuple(slots.map((slot) => slot.name))],
    ["catch_kwargs", kwargs !== null],
    ["catch_varargs", varargs !== null],
    ["caller", caller !== null || used.has("caller")],
  ]);
  return (outer) =>
    new Callable(
      `<Macro ${name === null ? "anonymous" : `'${name}'`}>`,
      (args, keywords) =>
        calledText(outer, scope.size, (frame) => {
          bind(frame, args, keywords);
          enter(frame);
          for (const { index, otherwise } of slots) {
            if (frame.slots[index] === undefined) frame.slots[index] = otherwise(frame);
          }
          execute(frame);
        }),
      attributes,
    );
}

/** @param compileBody compiles the block's body */
export function compileCallBlock(
  { call: node, parameters, body }: CallBlock,
  block: Block,
  compileBody: CompileBody,
): Execute {
  const macro = compileMacro({ name: null, parameters, body }, block, compileBody);
  const run = node === null ? null : compileCall(node, block, (frame) => new Map([["caller", macro(frame)]]));
  return (frame) => {
    step();
    write(frame.rendering, str(run === null ? call(macro(frame), [], new Map()) : run(frame)));
    return "next";
  };
}
