import type { Arguments, Comparison, Expression, Filter } from "./ast.ts";
import type { Operator } from "./operators.ts";
import { TokenReader } from "./token_reader.ts";
import { Float, int } from "./values.ts";

const COMPARISONS: ReadonlySet<string> = new Set(["==", "!=", "<", "<=", ">", ">="]);
const SUMS: ReadonlySet<string> = new Set(["+", "-"]);
const PRODUCTS: ReadonlySet<string> = new Set(["*", "/", "//", "%"]);
const POWERS: ReadonlySet<string> = new Set(["**"]);
/** Names that stand for a value, and that nothing can be assigned to. */
export const CONSTANTS: ReadonlyMap<string, boolean | null> = new Map([
  ["true", true],
  ["True", true],
  ["false", false],
  ["False", false],
  ["none", null],
  ["None", null],
]);
const NONE: Arguments = { positional: [], keywords: [], rest: null, more: null };

type SliceBounds = Pick<Extract<Expression, { kind: "slice" }>, "start" | "stop" | "step">;

/** Parses expressions, from the loosest operator to the tightest. */
export class ExpressionParser extends TokenReader {
  /** Times that `loop` has been read. */
  protected loopNames = 0;

  /** What commas may make a tuple of: items up to what ends one. */
  protected tupleOf<T>(item: () => T): { readonly items: T[]; readonly isTuple: boolean } {
    const items: T[] = [];
    while (!this.is("variable_end") && !this.is("block_end") && !this.is("operator", ")")) {
      items.push(item());
      if (!this.skip("operator", ",")) return { items, isTuple: items.length > 1 };
    }
    return { items, isTuple: items.length > 0 };
  }

  /** An expression, or several with commas between them. */
  protected tuple({ condition = true, parentheses = false } = {}): Expression {
    const { items, isTuple } = this.tupleOf(() => this.expression(condition));
    if (isTuple) return { kind: "tuple", items };
    if (items.length > 0) return items[0]!;
    if (!parentheses) this.refuse(`Expected an expression, got ${this.found()}`);
    return { kind: "tuple", items };
  }

  protected expression(condition = true): Expression {
    return this.nested(() => condition ? this.#condition() : this.#or());
  }

  #condition(): Expression {
    let value = this.#or();
    for (let links = 0; this.skip("name", "if"); this.link(++links)) {
      const test = this.#or();
      const otherwise = this.skip("name", "else") ? this.nested(() => this.#condition()) : null;
      value = { kind: "condition", test, then: value, otherwise };
    }
    return value;
  }

  #or(): Expression {
    return this.#logic("or", () => this.#logic("and", () => this.#not()));
  }

  #logic(kind: "or" | "and", operand: () => Expression): Expression {
    let left = operand();
    for (let links = 0; this.skip("name", kind); this.link(++links)) left = { kind, left, right: operand() };
    return left;
  }

  #not(): Expression {
    if (!this.skip("name", "not")) return this.#compare();
    return { kind: "unary", operator: "not", of: this.nested(() => this.#not()) };
  }

  #compare(): Expression {
    const first = this.#sum();
    const rest: Comparison[] = [];
    for (;;) {
      const { type, value } = this.token;
      if (type === "operator" && COMPARISONS.has(value)) {
        this.next();
        rest.push({ operator: value as Comparison["operator"], with: this.#sum() });
      } else if (this.skip("name", "in")) rest.push({ operator: "in", with: this.#sum() });
      else if (this.is("name", "not") && this.is("name", "in", 1)) {
        this.next();
        this.next();
        rest.push({ operator: "not in", with: this.#sum() });
      } else return rest.length === 0 ? first : { kind: "compare", first, rest };
    }
  }

  #sum(): Expression {
    return this.#binary(SUMS, () => this.#concat());
  }

  #concat(): Expression {
    const parts = [this.#product()];
    while (this.skip("operator", "~")) parts.push(this.#product());
    return parts.length === 1 ? parts[0]! : { kind: "concat", parts };
  }

  #product(): Expression {
    return this.#binary(PRODUCTS, () => this.#power());
  }

  #power(): Expression {
    return this.#binary(POWERS, () => this.#unary(true));
  }

  #binary(operators: ReadonlySet<string>, operand: () => Expression): Expression {
    let left = operand();
    for (let links = 0;; this.link(++links)) {
      const { type, value } = this.token;
      if (type !== "operator" || !operators.has(value)) return left;
      this.next();
      left = { kind: "binary", operator: value as Operator, left, right: operand() };
    }
  }

  #unary(filters: boolean): Expression {
    const sign = (["-", "+"] as const).find((sign) => this.skip("operator", sign));
    let value: Expression = sign === undefined
      ? this.#primary()
      : { kind: "unary", operator: sign, of: this.nested(() => this.#unary(false)) };
    value = this.#postfix(value);
    return filters ? this.#filtersAndTests(value) : value;
  }

  #primary(): Expression {
    const { type, value } = this.token;
    if (type === "name") {
      this.next();
      if (value === "loop") this.loopNames++;
      return CONSTANTS.has(value)
        ? { kind: "constant", value: CONSTANTS.get(value)! }
        : { kind: "name", name: value };
    }
    if (type === "string") {
      let text = "";
      while (this.is("string")) text += this.next().value;
      return { kind: "constant", value: text };
    }
    if (type === "integer" || type === "float") {
      this.next();
      return { kind: "constant", value: type === "integer" ? int(Number(value)) : new Float(Number(value)) };
    }
    if (this.skip("operator", "(")) {
      const tuple = this.nested(() => this.tuple({ parentheses: true }));
      this.expect("operator", ")");
      return tuple;
    }
    if (this.skip("operator", "[")) {
      return { kind: "list", items: this.#list("]", () => this.expression()) };
    }
    if (this.skip("operator", "{")) {
      const entries = this.#list("}", () => {
        const key = this.expression();
        this.expect("operator", ":");
        return [key, this.expression()] as const;
      });
      return { kind: "dict", entries };
    }
    return this.refuse(`unexpected ${this.found()}`);
  }

  /** Entries up to a bracket, which is taken; a comma may stand behind the last. */
  #list<T>(end: string, entry: () => T): T[] {
    const entries: T[] = [];
    while (!this.skip("operator", end)) {
      entries.push(entry());
      if (!this.is("operator", end)) this.expect("operator", ",");
    }
    return entries;
  }

  #postfix(value: Expression): Expression {
    for (let links = 0;; this.link(++links)) {
      if (this.skip("operator", ".")) {
        const { type, value: name } = this.token;
        if (type !== "name" && type !== "integer") this.refuse("expected name or number");
        this.next();
        value = type === "name"
          ? { kind: "attribute", of: value, name }
          : { kind: "item", of: value, key: { kind: "constant", value: int(Number(name)) } };
      } else if (this.skip("operator", "[")) value = this.#subscript(value);
      else if (this.is("operator", "(")) value = { kind: "call", callee: value, args: this.#arguments() };
      else return value;
    }
  }

  #subscript(of: Expression): Expression {
    const parts = this.separated("operator", "]", () => this.#subscriptPart());
    this.next();
    const [only] = parts;
    if (parts.length === 1) {
      return "kind" in only! ? { kind: "item", of, key: only } : { kind: "slice", of, ...only! };
    }
    const items = parts.map((part) =>
      "kind" in part ? part : this.refuse("a slice among several subscripts")
    );
    return { kind: "item", of, key: { kind: "tuple", items } };
  }

  #subscriptPart(): Expression | SliceBounds {
    const bound = () => [":", "]", ","].some((end) => this.is("operator", end)) ? null : this.expression();
    const start = this.is("operator", ":") ? null : this.expression();
    if (!this.skip("operator", ":")) return start!;
    const stop = bound();
    return { start, stop, step: this.skip("operator", ":") ? bound() : null };
  }

  #filtersAndTests(value: Expression): Expression {
    for (let links = 0;; this.link(++links)) {
      if (this.is("operator", "|")) value = this.filters(value)!;
      else if (this.skip("name", "is")) value = this.#test(value);
      else if (this.is("operator", "(")) value = { kind: "call", callee: value, args: this.#arguments() };
      else return value;
    }
  }

  protected filters(value: Expression | null): Expression | null {
    for (let links = 0; this.skip("operator", "|"); this.link(++links)) value = this.filter(value);
    return value;
  }

  protected filter(of: Expression | null): Filter {
    const name = this.#dottedName();
    return { kind: "filter", name, of, args: this.is("operator", "(") ? this.#arguments() : NONE };
  }

  #dottedName(): string {
    let name = this.expect("name").value;
    while (this.skip("operator", ".")) name += `.${this.expect("name").value}`;
    return name;
  }

  #test(of: Expression): Expression {
    const negated = this.skip("name", "not");
    const name = this.#dottedName();
    let args = NONE;
    const { type, value } = this.token;
    if (this.is("operator", "(")) args = this.#arguments();
    else if (
      type === "name" && !["else", "or", "and"].includes(value) || type === "string" || type === "integer" ||
      type === "float" || type === "operator" && (value === "[" || value === "{")
    ) {
      if (this.is("name", "is")) this.refuse("You cannot chain multiple tests with is");
      args = { ...NONE, positional: [this.#postfix(this.#primary())] };
    }
    const test: Expression = { kind: "test", name, of, args };
    return negated ? { kind: "unary", operator: "not", of: test } : test;
  }

  #arguments(): Arguments {
    const positional: Expression[] = [];
    const keywords = new Map<string, Expression>();
    let rest: Expression | null = null;
    let more: Expression | null = null;
    const ensure = (valid: boolean) => {
      if (!valid) this.refuse("invalid syntax for function call expression");
    };
    this.expect("operator", "(");
    this.#list(")", () => {
      if (this.skip("operator", "*")) {
        ensure(rest === null && more === null);
        rest = this.expression();
      } else if (this.skip("operator", "**")) {
        ensure(more === null);
        more = this.expression();
      } else if (this.is("name") && this.is("operator", "=", 1)) {
        ensure(more === null);
        const name = this.next().value;
        this.next();
        ensure(!keywords.has(name));
        keywords.set(name, this.expression());
      } else {
        ensure(rest === null && more === null && keywords.size === 0);
        positional.push(this.expression());
      }
    });
    return { positional, keywords: [...keywords], rest, more };
  }
}
