import type { Expression, Filter, For, If, Parameter, Statement, Target } from "./ast.ts";
import { UnsupportedError } from "./errors.ts";
import { normalized } from "./lexer.ts";
import { CONSTANTS, ExpressionParser } from "./parse_expression.ts";

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
 * @throws {TemplateSyntaxError} where Jinja2 has one
 * @throws {UnsupportedError}
 * @throws {BoundError} where it is nested too deeply
 */
export function parse(source: string): readonly Statement[] {
  return new StatementParser(normalized(source)).template();
}

class StatementParser extends ExpressionParser {
  /** Loops around what is parsed. */
  #loops = 0;
  /** Tags that are open, each with what may end it. */
  readonly #open: { readonly tag: string; readonly ends: readonly string[] }[] = [];

  template(): readonly Statement[] {
    return this.#statements([]);
  }

  /** Statements up to a tag of these; the whole template where there are none. */
  #statements(ends: readonly string[]): Statement[] {
    const body: Statement[] = [];
    let parts: (string | Expression)[] = [];
    const flush = () => {
      if (parts.length > 0) body.push({ kind: "output", parts });
      parts = [];
    };
    for (;;) {
      const { type, value } = this.token;
      if (type === "eof") {
        if (ends.length > 0) this.#refuseEnd("Unexpected end of template.");
        flush();
        return body;
      }
      this.next();
      if (type === "data") parts.push(value);
      else if (type === "variable_begin") {
        parts.push(this.tuple());
        this.expect("variable_end");
      } else {
        flush();
        if (this.token.type === "name" && ends.includes(this.token.value)) return body;
        const statement = this.nested(() => this.#statement());
        if (statement !== null) body.push(statement);
        this.expect("block_end");
      }
    }
  }

  #refuseEnd(what: string): never {
    const open = this.#open.at(-1);
    const looked = open ? ` Jinja was looking for ${open.ends.map((end) => `'${end}'`).join(" or ")}.` : "";
    const tag = open ? ` The innermost block that needs to be closed is '${open.tag}'.` : "";
    return this.refuse(`${what}${looked}${tag}`);
  }

  /** What is in a block, behind the tag that begins it; its end is the current token. */
  #body(tag: string, ...ends: string[]): Statement[] {
    this.skip("operator", ":");
    this.#open.push({ tag, ends });
    this.expect("block_end");
    const body = this.#statements(ends);
    this.#open.pop();
    return body;
  }

  #bodyTo(tag: string, end: string): Statement[] {
    const body = this.#body(tag, end);
    this.next();
    return body;
  }

  #statement(): Statement | null {
    if (this.token.type !== "name") this.refuse("tag name expected");
    const tag = this.token.value;
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
        this.next();
        return this[`_${tag}`]();
      case "break":
      case "continue":
        this.next();
        return { kind: tag };
    }
    return this.#refuseEnd(`Encountered unknown tag '${tag}'.`);
  }

  private _for(): For {
    this.#loops++;
    const target = this.#settable();
    this.expect("name", "in");
    const over = this.tuple({ condition: false });
    const test = this.skip("name", "if") ? this.expression() : null;
    const recursive = this.skip("name", "recursive");
    const before = this.loopNames;
    const body = this.#body("for", "endfor", "else");
    const usesLoop = this.loopNames > before;
    const otherwise = this.next().value === "else" ? this.#bodyTo("for", "endfor") : [];
    this.#loops--;
    return { kind: "for", target, over, test, recursive, usesLoop, body, otherwise };
  }

  private _if(): If {
    const branch = () => {
      const test = this.tuple({ condition: false });
      return { test, body: this.#body("if", "elif", "else", "endif") };
    };
    const first = branch();
    const elifs = [];
    for (;;) {
      const { value } = this.next();
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
    if (this.skip("operator", "=")) return { kind: "set", target, value: this.tuple() };
    const filter = this.filters(null) as Filter | null;
    return { kind: "set block", target, filter, body: this.#bodyTo("set", "endset") };
  }

  private _with(): Statement {
    const sets = this.separated("block_end", undefined, () => {
      const target = this.#target();
      this.expect("operator", "=");
      return [target, this.expression()] as const;
    });
    return { kind: "with", sets, body: this.#bodyTo("with", "endwith") };
  }

  private _macro(): Statement {
    const name = this.expect("name").value;
    this.#refuseConstant(name);
    const parameters = this.#parameters();
    return { kind: "macro", name, parameters, body: this.#bodyTo("macro", "endmacro") };
  }

  private _call(): Statement {
    const parameters = this.is("operator", "(") ? this.#parameters() : [];
    const call = this.expression();
    if (call.kind !== "call") return this.refuse("expected call");
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
    const filter = this.filters(this.filter(null));
    return { kind: "filter block", filter: filter as Filter, body: this.#bodyTo("filter", "endfilter") };
  }

  private _print(): Statement | null {
    const parts = this.separated("block_end", undefined, () => this.expression());
    return parts.length === 0 ? null : { kind: "output", parts };
  }

  #parameters(): Parameter[] {
    this.expect("operator", "(");
    const names = new Set<string>();
    let hasDefault = false;
    const parameters = this.separated("operator", ")", () => {
      const name = this.expect("name").value;
      this.#refuseConstant(name);
      if (names.has(name)) this.refuse(`duplicate argument '${name}'`);
      names.add(name);
      const otherwise = this.skip("operator", "=") ? this.expression() : null;
      if (otherwise === null && hasDefault) this.refuse("non-default argument follows default argument");
      hasDefault = otherwise !== null;
      return { name, otherwise };
    });
    this.next();
    return parameters;
  }

  /** What `for` and `set` assign to: not `loop`, within a loop. */
  #settable(fields = false): Target {
    const target = this.#target(fields);
    if (this.#loops > 0 && setsName(target, "loop")) {
      this.refuse("Can't assign to special loop variable in for-loop target");
    }
    return target;
  }

  /** @param fields whether fields of namespaces can be set */
  #target(fields = false): Target {
    const { items, isTuple } = this.tupleOf(() => this.#singleTarget(fields));
    if (isTuple) return { kind: "tuple", items };
    return items[0] ?? this.refuse(`Expected an expression, got ${this.found()}`);
  }

  #singleTarget(fields: boolean): Target {
    if (this.skip("operator", "(")) {
      const target = this.nested(() => this.#target());
      this.expect("operator", ")");
      return target;
    }
    if (!this.is("name")) return this.refuse(`can't assign to ${this.found()}`);
    const name = this.next().value;
    this.#refuseConstant(name);
    if (fields && this.skip("operator", ".")) {
      return { kind: "field", namespace: name, name: this.expect("name").value };
    }
    return { kind: "name", name };
  }

  #refuseConstant(name: string): void {
    if (CONSTANTS.has(name)) this.refuse(`can't assign to '${name}'`);
  }
}

function setsName(target: Target, name: string): boolean {
  if (target.kind === "tuple") return target.items.some((item) => setsName(item, name));
  return target.kind === "name" && target.name === name;
}
