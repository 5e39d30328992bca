import type {
  Arguments,
  Comparison,
  Expression,
  Filter,
  For,
  If,
  Parameter,
  Statement,
  Target,
} from "./ast.ts";
import { BoundError, TemplateSyntaxError, UnsupportedError } from "./errors.ts";
import { lineOf, normalized, type Token, tokenize } from "./lexer.ts";
import type { Operator } from "./operators.ts";
import { Float, int } from "./values.ts";

/** Levels of expressions and blocks within each other. */
const MOST_LEVELS = 80;
/** Operators, subscripts and the like that one expression may have in a row: the tree has a level for each. */
const MOST_LINKS = 400;

const COMPARISONS: ReadonlySet<string> = new Set(["==", "!=", "<", "<=", ">", ">="]);
const SUMS: ReadonlySet<string> = new Set(["+", "-"]);
const PRODUCTS: ReadonlySet<string> = new Set(["*", "/", "//", "%"]);
const POWERS: ReadonlySet<string> = new Set(["**"]);
const CONSTANTS: ReadonlyMap<string, boolean | null> = new Map([
  ["true", true],
  ["True", true],
  ["false", false],
  ["False", false],
  ["none", null],
  ["None", null],
]);
/** Tags that Jinja2 knows, and that need a loader, escape HTML or inherit: no chat template has a use for them. */
const UNSUPPORTED: ReadonlySet<string> = new Set([
  "extends",
  "include",
  "import",
  "from",
  "block",
  "autoescape",
]);

/**
 * Parses a template as Jinja2 does, with the tags of its `loopcontrols` and transformers' `generation`.
 *
 * @throws TemplateSyntaxError where Jinja2 has one; UnsupportedError; BoundError where it is nested too deeply
 */
export function parse(source: string): readonly Statement[] {
  return new Parser(normalized(source)).template();
}

class Parser {
  readonly #source: string;
  readonly #tokens: readonly Token[];
  #at = 0;
  #levels = 0;
  /** Loops around what is parsed. */
  #loops = 0;
  /** Times that `loop` has been read. */
  #loopNames = 0;
  /** Tags that are open, each with what may end it. */
  readonly #open: { readonly tag: string; readonly ends: readonly string[] }[] = [];

  constructor(source: string) {
    this.#source = source;
    this.#tokens = tokenize(source);
  }

  template(): readonly Statement[] {
    return this.#statements([]);
  }

  // tokens

  get #token(): Token {
    return this.#tokens[this.#at]!;
  }

  #next(): Token {
    const token = this.#token;
    if (token.type !== "eof") this.#at++;
    return token;
  }

  #is(type: Token["type"], value?: string, ahead = 0): boolean {
    const token = this.#tokens[Math.min(this.#at + ahead, this.#tokens.length - 1)]!;
    return token.type === type && (value === undefined || token.value === value);
  }

  #skip(type: Token["type"], value: string): boolean {
    const is = this.#is(type, value);
    if (is) this.#at++;
    return is;
  }

  #expect(type: Token["type"], value?: string): Token {
    if (this.#is(type, value)) return this.#next();
    return this.#refuse(
      `expected ${value === undefined ? describe(type) : `'${value}'`}, got ${this.#found()}`,
    );
  }

  #found(): string {
    const { type, value } = this.#token;
    return type === "name" || type === "operator" ? `'${value}'` : describe(type);
  }

  #refuse(message: string): never {
    throw new TemplateSyntaxError(message, lineOf(this.#source, this.#token.at));
  }

  #nested<T>(work: () => T): T {
    if (++this.#levels > MOST_LEVELS) {
      throw new BoundError(`it is nested more than ${MOST_LEVELS} levels deep`);
    }
    const result = work();
    this.#levels--;
    return result;
  }

  #link(count: number): void {
    if (count > MOST_LINKS) throw new BoundError(`an expression has more than ${MOST_LINKS} links in a row`);
  }

  // statements

  /** Statements up to a tag of these; the whole template where there are none. */
  #statements(ends: readonly string[]): Statement[] {
    const body: Statement[] = [];
    let parts: (string | Expression)[] = [];
    const flush = () => {
      if (parts.length > 0) body.push({ kind: "output", parts });
      parts = [];
    };
    for (;;) {
      const { type, value } = this.#token;
      if (type === "eof") {
        if (ends.length > 0) this.#refuseEnd("Unexpected end of template.");
        flush();
        return body;
      }
      this.#next();
      if (type === "data") parts.push(value);
      else if (type === "variable_begin") {
        parts.push(this.#tuple());
        this.#expect("variable_end");
      } else {
        flush();
        if (this.#token.type === "name" && ends.includes(this.#token.value)) return body;
        const statement = this.#nested(() => this.#statement());
        if (statement !== null) body.push(statement);
        this.#expect("block_end");
      }
    }
  }

  #refuseEnd(what: string): never {
    const open = this.#open.at(-1);
    const looked = open ? ` Jinja was looking for ${open.ends.map((end) => `'${end}'`).join(" or ")}.` : "";
    const tag = open ? ` The innermost block that needs to be closed is '${open.tag}'.` : "";
    return this.#refuse(`${what}${looked}${tag}`);
  }

  /** What is in a block, behind the tag that begins it; its end is the current token. */
  #body(tag: string, ...ends: string[]): Statement[] {
    this.#skip("operator", ":");
    this.#open.push({ tag, ends });
    this.#expect("block_end");
    const body = this.#statements(ends);
    this.#open.pop();
    return body;
  }

  #bodyTo(tag: string, end: string): Statement[] {
    const body = this.#body(tag, end);
    this.#next();
    return body;
  }

  #statement(): Statement | null {
    if (this.#token.type !== "name") this.#refuse("tag name expected");
    const tag = this.#token.value;
    if (UNSUPPORTED.has(tag)) throw new UnsupportedError(`{% ${tag} %}`);
    switch (tag) {
      case "for":
      case "if":
      case "set":
      case "with":
      case "macro":
      case "call":
      case "filter":
      case "print":
      case "generation":
        this.#next();
        return this[`_${tag}`]();
      case "break":
      case "continue":
        this.#next();
        return { kind: tag };
    }
    return this.#refuseEnd(`Encountered unknown tag '${tag}'.`);
  }

  private _for(): For {
    this.#loops++;
    const target = this.#settable();
    this.#expect("name", "in");
    const over = this.#tuple({ condition: false });
    const test = this.#skip("name", "if") ? this.#expression() : null;
    const recursive = this.#skip("name", "recursive");
    const before = this.#loopNames;
    const body = this.#body("for", "endfor", "else");
    const usesLoop = this.#loopNames > before;
    const otherwise = this.#next().value === "else" ? this.#bodyTo("for", "endfor") : [];
    this.#loops--;
    return { kind: "for", target, over, test, recursive, usesLoop, body, otherwise };
  }

  private _if(): If {
    const branch = () => {
      const test = this.#tuple({ condition: false });
      return { test, body: this.#body("if", "elif", "else", "endif") };
    };
    const first = branch();
    const elifs = [];
    for (;;) {
      const { value } = this.#next();
      if (value === "elif") {
        elifs.push(branch());
        continue;
      }
      const otherwise = value === "else" ? this.#bodyTo("if", "endif") : [];
      return { kind: "if", ...first, elifs, otherwise };
    }
  }

  private _set(): Statement {
    const target = this.#settable(true);
    if (this.#skip("operator", "=")) return { kind: "set", target, value: this.#tuple() };
    const filter = this.#filters(null) as Filter | null;
    return { kind: "set block", target, filter, body: this.#bodyTo("set", "endset") };
  }

  private _with(): Statement {
    const targets: Target[] = [];
    const values: Expression[] = [];
    while (!this.#is("block_end")) {
      if (targets.length > 0) this.#expect("operator", ",");
      targets.push(this.#target());
      this.#expect("operator", "=");
      values.push(this.#expression());
    }
    return { kind: "with", targets, values, body: this.#bodyTo("with", "endwith") };
  }

  private _macro(): Statement {
    const name = this.#expect("name").value;
    this.#refuseConstant(name);
    const parameters = this.#parameters();
    return { kind: "macro", name, parameters, body: this.#bodyTo("macro", "endmacro") };
  }

  private _call(): Statement {
    const parameters = this.#is("operator", "(") ? this.#parameters() : [];
    const call = this.#expression();
    if (call.kind !== "call") return this.#refuse("expected call");
    return { kind: "call block", call, parameters, body: this.#bodyTo("call", "endcall") };
  }

  private _generation(): Statement {
    return {
      kind: "call block",
      call: null,
      parameters: [],
      body: this.#bodyTo("generation", "endgeneration"),
    };
  }

  private _filter(): Statement {
    const filter = this.#filters(this.#filter(null));
    return { kind: "filter block", filter: filter as Filter, body: this.#bodyTo("filter", "endfilter") };
  }

  private _print(): Statement | null {
    const parts: Expression[] = [];
    while (!this.#is("block_end")) {
      if (parts.length > 0) this.#expect("operator", ",");
      parts.push(this.#expression());
    }
    return parts.length === 0 ? null : { kind: "output", parts };
  }

  #parameters(): Parameter[] {
    this.#expect("operator", "(");
    const parameters: Parameter[] = [];
    const names = new Set<string>();
    while (!this.#is("operator", ")")) {
      if (parameters.length > 0) this.#expect("operator", ",");
      const name = this.#expect("name").value;
      this.#refuseConstant(name);
      if (names.has(name)) this.#refuse(`duplicate argument '${name}'`);
      names.add(name);
      const otherwise = this.#skip("operator", "=") ? this.#expression() : null;
      if (otherwise === null && parameters.at(-1)?.otherwise) {
        this.#refuse("non-default argument follows default argument");
      }
      parameters.push({ name, otherwise });
    }
    this.#next();
    return parameters;
  }

  /** What `for` and `set` assign to: not `loop`, within a loop. */
  #settable(fields = false): Target {
    const target = this.#target(fields);
    if (this.#loops > 0 && setsName(target, "loop")) {
      this.#refuse("Can't assign to special loop variable in for-loop target");
    }
    return target;
  }

  /** @param fields whether fields of namespaces can be set */
  #target(fields = false): Target {
    const items: Target[] = [];
    let isTuple = false;
    for (;;) {
      if (items.length > 0) this.#expect("operator", ",");
      if (this.#endsTuple()) break;
      items.push(this.#singleTarget(fields));
      if (!this.#is("operator", ",")) break;
      isTuple = true;
    }
    if (!isTuple && items.length === 0) this.#refuse(`Expected an expression, got ${this.#found()}`);
    return isTuple ? { kind: "tuple", items } : items[0]!;
  }

  #singleTarget(fields: boolean): Target {
    if (this.#skip("operator", "(")) {
      const target = this.#nested(() => this.#target());
      this.#expect("operator", ")");
      return target;
    }
    if (!this.#is("name")) return this.#refuse(`can't assign to ${this.#found()}`);
    const name = this.#next().value;
    this.#refuseConstant(name);
    if (fields && this.#skip("operator", ".")) {
      return { kind: "field", namespace: name, name: this.#expect("name").value };
    }
    return { kind: "name", name };
  }

  #refuseConstant(name: string): void {
    if (CONSTANTS.has(name)) this.#refuse(`can't assign to '${name}'`);
  }

  // expressions, from the loosest operator to the tightest

  #endsTuple(): boolean {
    return this.#is("variable_end") || this.#is("block_end") || this.#is("operator", ")");
  }

  /** An expression, or several with commas between them. */
  #tuple({ condition = true, parentheses = false } = {}): Expression {
    const items: Expression[] = [];
    let isTuple = false;
    for (;;) {
      if (items.length > 0) this.#expect("operator", ",");
      if (this.#endsTuple()) break;
      items.push(this.#expression(condition));
      if (!this.#is("operator", ",")) break;
      isTuple = true;
    }
    if (isTuple) return { kind: "tuple", items };
    if (items.length > 0) return items[0]!;
    if (!parentheses) this.#refuse(`Expected an expression, got ${this.#found()}`);
    return { kind: "tuple", items };
  }

  #expression(condition = true): Expression {
    return this.#nested(() => condition ? this.#condition() : this.#or());
  }

  #condition(): Expression {
    let value = this.#or();
    for (let links = 0; this.#skip("name", "if"); this.#link(++links)) {
      const test = this.#or();
      const otherwise = this.#skip("name", "else") ? this.#nested(() => this.#condition()) : null;
      value = { kind: "condition", test, then: value, otherwise };
    }
    return value;
  }

  #or(): Expression {
    let left = this.#and();
    for (let links = 0; this.#skip("name", "or"); this.#link(++links)) {
      left = { kind: "or", left, right: this.#and() };
    }
    return left;
  }

  #and(): Expression {
    let left = this.#not();
    for (let links = 0; this.#skip("name", "and"); this.#link(++links)) {
      left = { kind: "and", left, right: this.#not() };
    }
    return left;
  }

  #not(): Expression {
    if (!this.#skip("name", "not")) return this.#compare();
    return { kind: "unary", operator: "not", of: this.#nested(() => this.#not()) };
  }

  #compare(): Expression {
    const first = this.#sum();
    const rest: Comparison[] = [];
    for (;;) {
      const { type, value } = this.#token;
      if (type === "operator" && COMPARISONS.has(value)) {
        this.#next();
        rest.push({ operator: value as Comparison["operator"], with: this.#sum() });
      } else if (this.#skip("name", "in")) rest.push({ operator: "in", with: this.#sum() });
      else if (this.#is("name", "not") && this.#is("name", "in", 1)) {
        this.#at += 2;
        rest.push({ operator: "not in", with: this.#sum() });
      } else return rest.length === 0 ? first : { kind: "compare", first, rest };
    }
  }

  #sum(): Expression {
    return this.#binary(SUMS, this.#concat);
  }

  #concat(): Expression {
    const parts = [this.#product()];
    while (this.#skip("operator", "~")) parts.push(this.#product());
    return parts.length === 1 ? parts[0]! : { kind: "concat", parts };
  }

  #product(): Expression {
    return this.#binary(PRODUCTS, this.#power);
  }

  #power(): Expression {
    return this.#binary(POWERS, this.#operand);
  }

  #operand(): Expression {
    return this.#unary(true);
  }

  #binary(operators: ReadonlySet<string>, operand: () => Expression): Expression {
    let left = operand.call(this);
    for (let links = 0;; this.#link(++links)) {
      const { type, value } = this.#token;
      if (type !== "operator" || !operators.has(value)) return left;
      this.#next();
      left = { kind: "binary", operator: value as Operator, left, right: operand.call(this) };
    }
  }

  #unary(filters: boolean): Expression {
    const sign = (["-", "+"] as const).find((sign) => this.#skip("operator", sign));
    let value: Expression = sign === undefined
      ? this.#primary()
      : { kind: "unary", operator: sign, of: this.#nested(() => this.#unary(false)) };
    value = this.#postfix(value);
    return filters ? this.#filtersAndTests(value) : value;
  }

  #primary(): Expression {
    const { type, value } = this.#token;
    if (type === "name") {
      this.#next();
      if (value === "loop") this.#loopNames++;
      return CONSTANTS.has(value)
        ? { kind: "constant", value: CONSTANTS.get(value)! }
        : { kind: "name", name: value };
    }
    if (type === "string") {
      let text = "";
      while (this.#is("string")) text += this.#next().value;
      return { kind: "constant", value: text };
    }
    if (type === "integer" || type === "float") {
      this.#next();
      return { kind: "constant", value: type === "integer" ? int(Number(value)) : new Float(Number(value)) };
    }
    if (this.#skip("operator", "(")) {
      const tuple = this.#nested(() => this.#tuple({ parentheses: true }));
      this.#expect("operator", ")");
      return tuple;
    }
    if (this.#skip("operator", "[")) {
      return { kind: "list", items: this.#list("]", () => this.#expression()) };
    }
    if (this.#skip("operator", "{")) {
      const entries = this.#list("}", () => {
        const key = this.#expression();
        this.#expect("operator", ":");
        return [key, this.#expression()] as const;
      });
      return { kind: "dict", entries };
    }
    return this.#refuse(`unexpected ${this.#found()}`);
  }

  /** Entries up to a bracket; a comma may stand behind the last. */
  #list<T>(end: string, entry: () => T): T[] {
    const entries: T[] = [];
    while (!this.#is("operator", end)) {
      if (entries.length > 0) this.#expect("operator", ",");
      if (this.#is("operator", end)) break;
      entries.push(entry());
    }
    this.#next();
    return entries;
  }

  #postfix(value: Expression): Expression {
    for (let links = 0;; this.#link(++links)) {
      if (this.#skip("operator", ".")) {
        const { type, value: name } = this.#token;
        if (type !== "name" && type !== "integer") this.#refuse("expected name or number");
        this.#next();
        value = type === "name"
          ? { kind: "attribute", of: value, name }
          : { kind: "item", of: value, key: { kind: "constant", value: int(Number(name)) } };
      } else if (this.#skip("operator", "[")) value = this.#subscript(value);
      else if (this.#is("operator", "(")) value = { kind: "call", callee: value, args: this.#arguments() };
      else return value;
    }
  }

  #subscript(of: Expression): Expression {
    const parts: (Expression | Omit<Extract<Expression, { kind: "slice" }>, "of">)[] = [];
    const bound = () =>
      this.#is("operator", ":") || this.#is("operator", "]") || this.#is("operator", ",")
        ? null
        : this.#expression();
    const part = () => {
      const start = this.#is("operator", ":") ? null : this.#expression();
      if (!this.#skip("operator", ":")) return start!;
      const stop = bound();
      const step = this.#skip("operator", ":") ? bound() : null;
      return { kind: "slice", start, stop, step } as const;
    };
    while (!this.#is("operator", "]")) {
      if (parts.length > 0) this.#expect("operator", ",");
      parts.push(part());
    }
    this.#next();
    const [only] = parts;
    if (parts.length === 1) {
      return only!.kind === "slice" && !("of" in only!)
        ? { ...only!, of }
        : { kind: "item", of, key: only as Expression };
    }
    if (parts.some((part) => part.kind === "slice" && !("of" in part))) {
      this.#refuse("a slice among several subscripts");
    }
    return { kind: "item", of, key: { kind: "tuple", items: parts as Expression[] } };
  }

  #filtersAndTests(value: Expression): Expression {
    for (let links = 0;; this.#link(++links)) {
      if (this.#is("operator", "|")) value = this.#filters(value)!;
      else if (this.#skip("name", "is")) value = this.#test(value);
      else if (this.#is("operator", "(")) value = { kind: "call", callee: value, args: this.#arguments() };
      else return value;
    }
  }

  #filters(value: Expression | null): Expression | null {
    for (let links = 0; this.#skip("operator", "|"); this.#link(++links)) value = this.#filter(value);
    return value;
  }

  #filter(of: Expression | null): Filter {
    const name = this.#dottedName();
    return { kind: "filter", name, of, args: this.#is("operator", "(") ? this.#arguments() : NONE };
  }

  #dottedName(): string {
    let name = this.#expect("name").value;
    while (this.#skip("operator", ".")) name += `.${this.#expect("name").value}`;
    return name;
  }

  #test(of: Expression): Expression {
    const negated = this.#skip("name", "not");
    const name = this.#dottedName();
    let args = NONE;
    const { type, value } = this.#token;
    if (this.#is("operator", "(")) args = this.#arguments();
    else if (
      type === "name" && !["else", "or", "and"].includes(value) || type === "string" || type === "integer" ||
      type === "float" || type === "operator" && (value === "[" || value === "{")
    ) {
      if (this.#is("name", "is")) this.#refuse("You cannot chain multiple tests with is");
      args = { ...NONE, positional: [this.#postfix(this.#primary())] };
    }
    const test: Expression = { kind: "test", name, of, args };
    return negated ? { kind: "unary", operator: "not", of: test } : test;
  }

  #arguments(): Arguments {
    this.#expect("operator", "(");
    const positional: Expression[] = [];
    const keywords: [string, Expression][] = [];
    const names = new Set<string>();
    let rest: Expression | null = null;
    let more: Expression | null = null;
    let first = true;
    const ensure = (valid: boolean) => {
      if (!valid) this.#refuse("invalid syntax for function call expression");
    };
    while (!this.#is("operator", ")")) {
      if (!first) {
        this.#expect("operator", ",");
        if (this.#is("operator", ")")) break;
      }
      first = false;
      if (this.#skip("operator", "*")) {
        ensure(rest === null && more === null);
        rest = this.#expression();
      } else if (this.#skip("operator", "**")) {
        ensure(more === null);
        more = this.#expression();
      } else if (this.#is("name") && this.#is("operator", "=", 1)) {
        ensure(more === null);
        const name = this.#next().value;
        this.#next();
        ensure(!names.has(name));
        names.add(name);
        keywords.push([name, this.#expression()]);
      } else {
        ensure(rest === null && more === null && keywords.length === 0);
        positional.push(this.#expression());
      }
    }
    this.#next();
    return { positional, keywords, rest, more };
  }
}

const NONE: Arguments = { positional: [], keywords: [], rest: null, more: null };

function setsName(target: Target, name: string): boolean {
  if (target.kind === "tuple") return target.items.some((item) => setsName(item, name));
  return target.kind === "name" && target.name === name;
}

function describe(type: Token["type"]): string {
  const names: Partial<Record<Token["type"], string>> = {
    block_begin: "begin of statement block",
    block_end: "end of statement block",
    variable_begin: "begin of print statement",
    variable_end: "end of print statement",
    data: "template data / text",
    eof: "end of template",
  };
  return names[type] ?? type;
}
