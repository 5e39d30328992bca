/** A template becomes functions, as Jinja2 makes Python's of it. */
import { call } from "./access.ts";
import type { CallBlock, Expression, For, If, Macro, Parameter, Statement } from "./ast.ts";
import { chargeText, deeper, step } from "./budget.ts";
import { compileCall, compileExpression, type Place, type Run } from "./compile_expression.ts";
import { type Assign, compileFieldCheck, compileTarget } from "./compile_target.ts";
import { iterate } from "./compare.ts";
import { fail, TemplateSyntaxError, UnsupportedError } from "./errors.ts";
import { captured, Frame, type Rendering, write } from "./frame.ts";
import { Loop } from "./instances.ts";
import { str } from "./print.ts";
import { FunctionScope, type Load, sizeOf, Symbols, undeclared, type Variable } from "./scope.ts";
import {
  Callable,
  Dict,
  type Keywords,
  Stream,
  textOf,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

/** How a statement ends: by the next, or by leaving or going on with the loop around it. */
type Flow = "next" | "break" | "continue";
type Execute = (frame: Frame) => Flow;

interface Block extends Place {
  readonly inLoop: boolean;
}

/** @throws TemplateError where Jinja2 refuses the template before it is rendered */
export function compile(template: readonly Statement[]): (rendering: Rendering) => void {
  const scope = new FunctionScope(null);
  const symbols = new Symbols(scope, null);
  symbols.body(template);
  const enter = compileEnter(symbols, scope);
  const body = compileBody(template, { symbols, scope, soft: false, inLoop: false });
  return (rendering) => {
    const frame = new Frame(rendering, null, scope.size);
    enter(frame);
    body(frame);
  };
}

/** Sets what a block's variables begin as. */
function compileEnter(symbols: Symbols, scope: FunctionScope): (frame: Frame) => void {
  const begin = ([{ index }, load]: readonly [Variable, Load]): ((frame: Frame) => void) | null => {
    switch (load.from) {
      case "parameter":
        return null;
      case "nothing":
        return (frame) => {
          frame.slots[index] = undefined;
        };
      case "outer": {
        const hops = scope.hops(load.variable);
        const outer = load.variable.index;
        return (frame) => {
          frame.slots[index] = frame.out(hops).slots[outer];
        };
      }
      case "context":
        if (load.name === "self") throw new UnsupportedError("the variable self");
        return (frame) => {
          frame.slots[index] = frame.rendering.context.get(load.name);
        };
    }
  };
  const all = [...symbols.loads].map(begin).filter((work) => work !== null);
  return (frame) => {
    for (const work of all) work(frame);
  };
}

/** Unsets a block's variables. */
function compileLeave(symbols: Symbols): (frame: Frame) => void {
  const indices = Array.from(symbols.loads.keys(), ({ index }) => index);
  return (frame) => {
    for (const index of indices) frame.slots[index] = undefined;
  };
}

/** A block with variables of its own, in the same function. */
function inner(block: Block, analyse: (symbols: Symbols) => void) {
  const symbols = new Symbols(block.scope, block.symbols);
  analyse(symbols);
  return {
    place: { ...block, symbols, soft: false },
    enter: compileEnter(symbols, block.scope),
    leave: compileLeave(symbols),
  };
}

function compileBody(body: readonly Statement[], block: Block): Execute {
  const statements = body.map((statement) => compileStatement(statement, block));
  return (frame) => {
    for (const execute of statements) {
      const flow = execute(frame);
      if (flow !== "next") return flow;
    }
    return "next";
  };
}

function compileStatement(statement: Statement, block: Block): Execute {
  switch (statement.kind) {
    case "output":
      return compileOutput(statement.parts, block);
    case "for":
      return compileFor(statement, block);
    case "if":
      return compileIf(statement, block);
    case "set": {
      const { target, value } = statement;
      const check = compileFieldCheck(target, block);
      const run = compileExpression(value, block);
      const assign = compileTarget(target, block);
      const size = sizeOf(value) + 1;
      return (frame) => {
        step(size);
        check(frame);
        assign(frame, run(frame));
        return "next";
      };
    }
    case "set block":
      return compileTextBlock(statement, block, compileTarget(statement.target, block));
    case "with": {
      const { place, enter, leave } = inner(block, (symbols) => {
        for (const [target] of statement.sets) symbols.target(target, true);
        symbols.body(statement.body);
      });
      const sets = statement.sets.map(([target, value]) =>
        [compileTarget(target, place), compileExpression(value, block)] as const
      );
      const execute = compileBody(statement.body, place);
      return (frame) => {
        step(sets.length + 1);
        enter(frame);
        for (const [assign, run] of sets) assign(frame, run(frame));
        const flow = execute(frame);
        if (flow === "next") leave(frame);
        return flow;
      };
    }
    case "macro": {
      const macro = compileMacro(statement, block);
      const assign = compileTarget({ kind: "name", name: statement.name }, block);
      return (frame) => {
        step();
        assign(frame, macro(frame));
        return "next";
      };
    }
    case "call block":
      return compileCallBlock(statement, block);
    case "filter block":
      return compileTextBlock(statement, block, (frame, value) => {
        if (textOf(value) === null) fail(`a filter block must give a text, not ${typeName(value)}`);
        write(frame.rendering, str(value));
      });
    case "break":
    case "continue": {
      if (!block.inLoop) throw new TemplateSyntaxError(`'${statement.kind}' outside loop`, 0);
      const { kind } = statement;
      return () => kind;
    }
  }
}

/** A block whose text is not written where it stands but taken, through its filter where it has one. */
function compileTextBlock(
  { kind, filter, body }: Extract<Statement, { kind: "set block" | "filter block" }>,
  block: Block,
  take: Assign,
): Execute {
  const { place, enter, leave } = inner(block, (symbols) => {
    symbols.body(body);
    // Jinja2 does not look for names in the filter of a set block
    if (kind === "filter block") symbols.expression(filter);
  });
  const execute = compileBody(body, place);
  let text = "";
  const run = filter === null ? null : compileExpression(filter, place, () => text);
  return (frame) => {
    step();
    enter(frame);
    const written = captured(frame.rendering, () => execute(frame));
    if (written.result !== "next") return written.result;
    chargeText(written.text.length);
    text = written.text;
    take(frame, run === null ? text : run(frame));
    leave(frame);
    return "next";
  };
}

function compileOutput(parts: readonly (string | Expression)[], block: Block): Execute {
  const runs = parts.map((part) => typeof part === "string" ? part : compileExpression(part, block));
  const size = parts.reduce((sum, part) => sum + (typeof part === "string" ? 1 : sizeOf(part)), 0);
  return (frame) => {
    step(size);
    for (const run of runs) write(frame.rendering, typeof run === "string" ? run : str(run(frame)));
    return "next";
  };
}

function compileIf({ test, body, elifs, otherwise }: If, block: Block): Execute {
  const soft = { ...block, soft: true };
  const branches = [{ test, body }, ...elifs].map((branch) => ({
    test: compileExpression(branch.test, soft),
    size: sizeOf(branch.test),
    execute: compileBody(branch.body, soft),
  }));
  const last = compileBody(otherwise, soft);
  return (frame) => {
    for (const { test, size, execute } of branches) {
      step(size);
      if (truth(test(frame))) return execute(frame);
    }
    return last(frame);
  };
}

function compileFor(node: For, block: Block): Execute {
  const scope = node.recursive ? new FunctionScope(block.scope) : block.scope;
  const symbols = new Symbols(scope, block.symbols);
  const loopVariable = node.recursive || node.usesLoop ? symbols.declare("loop") : null;
  symbols.target(node.target, true);
  symbols.body(node.body);
  const place: Block = { symbols, scope, soft: false, inLoop: true };
  const enter = compileEnter(symbols, scope);
  const leave = compileLeave(symbols);
  const assign = compileTarget(node.target, place);
  const body = compileBody(node.body, place);
  const otherwise = compileElse(node, block, scope);
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
      deeper(() => {
        const frame = new Frame(outer.rendering, outer, scope.size);
        const { text } = captured(outer.rendering, () => loop(frame, outer, value, recurse, depth0));
        chargeText(text.length);
        return text;
      });
    write(outer.rendering, recurse(over(outer), 0));
    return "next";
  };
}

function compileElse({ otherwise, recursive }: For, block: Block, scope: FunctionScope): Execute | null {
  if (otherwise.length === 0) return null;
  const { place, enter, leave } = inner(
    { ...block, scope, inLoop: block.inLoop && !recursive },
    (symbols) => {
      symbols.body(otherwise);
    },
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
  const scope = new FunctionScope(block.scope);
  const symbols = new Symbols(scope, block.symbols);
  symbols.target(target, true);
  symbols.expression(test);
  const place: Block = { symbols, scope, soft: false, inLoop: false };
  const enter = compileEnter(symbols, scope);
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

/** Makes a macro where it is defined. */
function compileMacro(
  { name, parameters, body }: { name: string | null; parameters: readonly Parameter[]; body: Macro["body"] },
  block: Block,
): (frame: Frame) => Callable {
  const scope = new FunctionScope(block.scope);
  const symbols = new Symbols(scope, block.symbols);
  const analyse = () => {
    symbols.parameters(parameters);
    symbols.body(body);
  };
  analyse();
  const used = undeclared(body, ["caller", "kwargs", "varargs"]);
  const given = (special: string) => parameters.some((parameter) => parameter.name === special);
  const ownCaller = parameters.findIndex((parameter) => parameter.name === "caller");
  if (used.has("caller") && ownCaller !== -1 && parameters[ownCaller]!.otherwise === null) {
    fail(
      'When defining macros or call blocks the special "caller" argument must be omitted or be given a default.',
    );
  }
  const special = (name: string) => used.has(name) && !given(name) ? symbols.declare(name).index : null;
  const [caller, kwargs, varargs] = [special("caller"), special("kwargs"), special("varargs")];
  analyse();

  const place: Block = { symbols, scope, soft: false, inLoop: false };
  const enter = compileEnter(symbols, scope);
  const slots = parameters.map((parameter) => {
    const { index } = symbols.get(parameter.name);
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
    new Callable(`<Macro ${name === null ? "anonymous" : `'${name}'`}>`, (args, keywords) =>
      deeper(() => {
        const frame = new Frame(outer.rendering, outer, scope.size);
        bind(frame, args, keywords);
        enter(frame);
        for (const { index, otherwise } of slots) {
          if (frame.slots[index] === undefined) frame.slots[index] = otherwise(frame);
        }
        const { text } = captured(outer.rendering, () => execute(frame));
        chargeText(text.length);
        return text;
      }), attributes);
}

function compileCallBlock({ call: node, parameters, body }: CallBlock, block: Block): Execute {
  const macro = compileMacro({ name: null, parameters, body }, block);
  const run = node === null ? null : compileCall(node, block, (frame) => new Map([["caller", macro(frame)]]));
  return (frame) => {
    step();
    write(frame.rendering, str(run === null ? call(macro(frame), [], new Map()) : run(frame)));
    return "next";
  };
}
