/** A template's parts, as the parser finds them. */
import type { Value } from "./values.ts";

export type Expression =
  | { readonly kind: "constant"; readonly value: Value }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "list" | "tuple"; readonly items: readonly Expression[] }
  | { readonly kind: "dict"; readonly entries: readonly (readonly [Expression, Expression])[] }
  | {
    readonly kind: "binary";
    readonly operator: "+" | "-" | "*" | "/" | "//" | "%" | "**";
    readonly left: Expression;
    readonly right: Expression;
  }
  | { readonly kind: "and" | "or"; readonly left: Expression; readonly right: Expression }
  | { readonly kind: "unary"; readonly operator: "not" | "-" | "+"; readonly of: Expression }
  | { readonly kind: "concat"; readonly parts: readonly Expression[] }
  | { readonly kind: "compare"; readonly first: Expression; readonly rest: readonly Comparison[] }
  | {
    readonly kind: "condition";
    readonly test: Expression;
    readonly then: Expression;
    readonly otherwise: Expression | null;
  }
  | { readonly kind: "attribute"; readonly of: Expression; readonly name: string }
  | { readonly kind: "item"; readonly of: Expression; readonly key: Expression }
  | {
    readonly kind: "slice";
    readonly of: Expression;
    readonly start: Expression | null;
    readonly stop: Expression | null;
    readonly step: Expression | null;
  }
  | Call
  | Filter
  | { readonly kind: "test"; readonly name: string; readonly of: Expression; readonly args: Arguments };

/** One link of `a < b < c`. */
export interface Comparison {
  readonly operator: "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in";
  readonly with: Expression;
}

export interface Call {
  readonly kind: "call";
  readonly callee: Expression;
  readonly args: Arguments;
}

/** @property of null: what the block around it has written */
export interface Filter {
  readonly kind: "filter";
  readonly name: string;
  readonly of: Expression | null;
  readonly args: Arguments;
}

export interface Arguments {
  readonly positional: readonly Expression[];
  readonly keywords: readonly (readonly [string, Expression])[];
  /** Behind `*`. */
  readonly rest: Expression | null;
  /** Behind `**`. */
  readonly more: Expression | null;
}

/** What is assigned to. */
export type Target =
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "field"; readonly namespace: string; readonly name: string }
  | { readonly kind: "tuple"; readonly items: readonly Target[] };

/** A parameter with its default. */
export interface Parameter {
  readonly name: string;
  readonly otherwise: Expression | null;
}

export type Statement =
  | { readonly kind: "output"; readonly parts: readonly (string | Expression)[] }
  | For
  | If
  | { readonly kind: "set"; readonly target: Target; readonly value: Expression }
  | {
    readonly kind: "set block";
    readonly target: Target;
    readonly filter: Filter | null;
    readonly body: readonly Statement[];
  }
  | {
    readonly kind: "with";
    readonly sets: readonly (readonly [Target, Expression])[];
    readonly body: readonly Statement[];
  }
  | Macro
  | CallBlock
  | { readonly kind: "filter block"; readonly filter: Filter; readonly body: readonly Statement[] }
  | { readonly kind: "break" | "continue" };

export interface If {
  readonly kind: "if";
  readonly test: Expression;
  readonly body: readonly Statement[];
  readonly elifs: readonly { readonly test: Expression; readonly body: readonly Statement[] }[];
  readonly otherwise: readonly Statement[];
}

export interface For {
  readonly kind: "for";
  readonly target: Target;
  readonly over: Expression;
  readonly body: readonly Statement[];
  readonly otherwise: readonly Statement[];
  readonly test: Expression | null;
  readonly recursive: boolean;
  /** Whether the body reads `loop`. */
  readonly usesLoop: boolean;
}

export interface Macro {
  readonly kind: "macro";
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly body: readonly Statement[];
}

/** @property call null: the body's text is written, as the tag `generation` has it */
export interface CallBlock {
  readonly kind: "call block";
  readonly call: Call | null;
  readonly parameters: readonly Parameter[];
  readonly body: readonly Statement[];
}
