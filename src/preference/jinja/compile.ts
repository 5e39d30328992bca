/** A template becomes functions, as Jinja2 makes Python's of it. */
import type { Expression, If, Statement } from "./ast.ts";
import { type Block, compileEnter, type Execute, inner } from "./block.ts";
import { chargeText, step } from "./budget.ts";
import { compileExpression } from "./compile_expression.ts";
import { compileFor } from "./compile_for.ts";
import { compileCallBlock, compileMacro } from "./compile_macro.ts";
import { type Assign, compileFieldCheck, compileTarget } from "./compile_target.ts";
import { fail, TemplateSyntaxError } from "./errors.ts";
import { captured, Frame, type Rendering, write } from "./frame.ts";
import { str } from "./print.ts";
import { FunctionScope, Symbols } from "./scope.ts";
import { textOf, truth, typeName } from "./values.ts";
import { sizeOf } from "./walk.ts";

/** @throws {TemplateError} where Jinja2 refuses the template before it is rendered */
export function compile(template: readonly Statement[]): (rendering: Rendering) => void {
  const scope = new FunctionScope(null);
  const symbols = new Symbols(scope, null);
  symbols.body(template);
  const enter = compileEnter(symbols);
  const body = compileBody(template, { symbols, soft: false, inLoop: false });
  return (rendering) => {
    const frame = new Frame(rendering, null, scope.size);
    enter(frame);
    body(frame);
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
      return compileFor(statement, block, compileBody);
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
      const macro = compileMacro(statement, block, compileBody);
      const assign = compileTarget({ kind: "name", name: statement.name }, block);
      return (frame) => {
        step();
        assign(frame, macro(frame));
        return "next";
      };
    }
    case "call block":
      return compileCallBlock(statement, block, compileBody);
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
