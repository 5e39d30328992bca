/**
 * Which variable a name means. Jinja2 compiles a template to Python functions, and decides from the source alone where each
 * name lives: a name that a block sets anywhere is that block's own, begins as what it is outside, and is gone behind the
 * block. This is that decision, with its corners.
 */
import type { Expression, Parameter, Statement, Target } from "./ast.ts";
import { TemplateSyntaxError } from "./errors.ts";
import { namesIn } from "./walk.ts";

/** How a variable begins where its block does. */
export type Load =
  | { readonly from: "parameter" }
  | { readonly from: "context"; readonly name: string }
  | { readonly from: "outer"; readonly variable: Variable }
  | { readonly from: "nothing" };

/** A place for a value in the function that owns it. Blocks at one level share the places of their names. */
export interface Variable {
  readonly name: string;
  readonly owner: FunctionScope;
  readonly index: number;
}

/** A function that the template becomes: its root, a macro, a recursive loop or a loop's filter. */
export class FunctionScope {
  readonly #variables = new Map<string, Variable>();

  constructor(readonly parent: FunctionScope | null) {}

  get size(): number {
    return this.#variables.size;
  }

  variable(name: string, level: number): Variable {
    const key = `${level} ${name}`;
    let variable = this.#variables.get(key);
    if (variable === undefined) {
      variable = { name, owner: this, index: this.#variables.size };
      this.#variables.set(key, variable);
    }
    return variable;
  }

  /** Functions to go out from here to where the variable lives. */
  hops(variable: Variable): number {
    return variable.owner === this ? 0 : 1 + this.parent!.hops(variable);
  }
}

/** Names of a block. */
export class Symbols {
  readonly level: number;
  readonly #refs = new Map<string, Variable>();
  readonly #loads = new Map<Variable, Load>();
  readonly #stores = new Set<string>();

  constructor(
    readonly scope: FunctionScope,
    readonly parent: Symbols | null,
    /** What this adds to, where it is a branch of an `if`. */
    private readonly base: Symbols | null = null,
  ) {
    this.level = base ? base.level : parent ? parent.level + 1 : 0;
  }

  get loads(): ReadonlyMap<Variable, Load> {
    return this.#loads;
  }

  #own(name: string): Variable | undefined {
    return this.#refs.get(name) ?? (this.base === null ? undefined : this.base.#own(name));
  }

  find(name: string): Variable | undefined {
    return this.#own(name) ?? this.parent?.find(name);
  }

  /** @throws {TemplateSyntaxError} where Jinja2 has not looked for names: in the filter of a `set` block */
  get(name: string): Variable {
    const variable = this.find(name);
    if (variable !== undefined) return variable;
    throw new TemplateSyntaxError(`'${name}' cannot be used in the filter of a set block`, 0);
  }

  #define(name: string, load: Load): Variable {
    const variable = this.scope.variable(name, this.level);
    this.#refs.set(name, variable);
    this.#loads.set(variable, load);
    return variable;
  }

  declare(name: string): Variable {
    this.#stores.add(name);
    return this.#define(name, { from: "parameter" });
  }

  load(name: string): void {
    if (this.find(name) === undefined) this.#define(name, { from: "context", name });
  }

  store(name: string): void {
    this.#stores.add(name);
    if (this.#own(name) !== undefined) return;
    const outer = this.parent?.find(name);
    this.#define(name, outer ? { from: "outer", variable: outer } : { from: "nothing" });
  }

  #stored(name: string): boolean {
    return this.#stores.has(name) || this.base !== null && this.base.#stored(name);
  }

  /** What branches of an `if` set is set, or as it was before. */
  merge(branches: readonly Symbols[]): void {
    const stores = new Set<string>();
    for (const branch of branches) {
      for (const name of branch.#stores) if (!this.#stored(name)) stores.add(name);
    }
    for (const branch of branches) {
      for (const [name, variable] of branch.#refs) this.#refs.set(name, variable);
      for (const [variable, load] of branch.#loads) this.#loads.set(variable, load);
      for (const name of branch.#stores) this.#stores.add(name);
    }
    for (const name of stores) {
      const outer = this.parent?.find(name);
      this.#loads.set(
        this.find(name)!,
        outer ? { from: "outer", variable: outer } : { from: "context", name },
      );
    }
  }

  // what the parts of a template do to names

  body(statements: readonly Statement[]): void {
    for (const statement of statements) this.statement(statement);
  }

  statement(statement: Statement): void {
    switch (statement.kind) {
      case "output":
        for (const part of statement.parts) if (typeof part !== "string") this.expression(part);
        break;
      case "for":
        this.expression(statement.over);
        break;
      case "if": {
        this.expression(statement.test);
        const body = this.#branch((branch) => branch.body(statement.body));
        const elifs = this.#branch((branch) => {
          for (const { test, body } of statement.elifs) {
            branch.statement({ kind: "if", test, body, elifs: [], otherwise: [] });
          }
        });
        const otherwise = this.#branch((branch) => branch.body(statement.otherwise));
        this.merge([body, elifs, otherwise]);
        break;
      }
      case "set":
        this.expression(statement.value);
        this.target(statement.target);
        break;
      case "set block":
        this.target(statement.target);
        break;
      case "with":
        for (const [, value] of statement.sets) this.expression(value);
        break;
      case "macro":
        this.store(statement.name);
        break;
      case "call block":
        if (statement.call) this.expression(statement.call);
        break;
      case "filter block":
        this.expression(statement.filter);
        break;
    }
  }

  #branch(work: (branch: Symbols) => void): Symbols {
    const branch = new Symbols(this.scope, this.parent, this);
    work(branch);
    return branch;
  }

  /** @param parameter whether the names are given from outside, as a loop's are */
  target(target: Target, parameter = false): void {
    if (target.kind === "tuple") { for (const item of target.items) this.target(item, parameter); }
    else if (target.kind === "field") this.load(target.namespace);
    else if (parameter) this.declare(target.name);
    else this.store(target.name);
  }

  parameters(parameters: readonly Parameter[]): void {
    for (const { name } of parameters) this.declare(name);
    for (const { otherwise } of parameters) if (otherwise) this.expression(otherwise);
  }

  expression(expression: Expression): void {
    for (const name of namesIn(expression)) this.load(name);
  }
}
