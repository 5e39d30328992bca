/** A block of a template, and the variables that are its own. */
import type { Statement } from "./ast.ts";
import type { Place } from "./compile_expression.ts";
import { UnsupportedError } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { type Load, Symbols, type Variable } from "./scope.ts";

/** How a statement ends: by the next, or by leaving or going on with the loop around it. */
export type Flow = "next" | "break" | "continue";
/** Runs a statement. */
export type Execute = (frame: Frame) => Flow;

/** Compiles the statements of a block, one after another. */
export type CompileBody = (body: readonly Statement[], block: Block) => Execute;

/** Where statements stand. */
export interface Block extends Place {
  readonly inLoop: boolean;
}

/** Sets what a block's variables begin as. */
export function compileEnter(symbols: Symbols): (frame: Frame) => void {
  const begin = ([{ index }, load]: readonly [Variable, Load]): ((frame: Frame) => void) | null => {
    switch (load.from) {
      case "parameter":
        return null;
      case "nothing":
        return (frame) => {
          frame.slots[index] = undefined;
        };
      case "outer": {
        const hops = symbols.scope.hops(load.variable);
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

/**
 * A block with variables of its own.
 *
 * @param analyse tells its symbols what stands in it
 * @param scope the function that it is part of; unless given the one of the block around it
 * @returns `found`: what `analyse` returns
 */
export function inner<T>(block: Block, analyse: (symbols: Symbols) => T, scope = block.symbols.scope) {
  const symbols = new Symbols(scope, block.symbols);
  const found = analyse(symbols);
  return {
    place: { ...block, symbols, soft: false },
    found,
    enter: compileEnter(symbols),
    leave: compileLeave(symbols),
  };
}
