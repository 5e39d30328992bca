/**
 * The little that WGSL lacks for straight-line kernels, and a reader of what a shader declares.
 *
 * - `@unroll(i, 0, 4) { ... $i ... $(i / 2) ... }` repeats its body, because naga neither unrolls loops nor keeps a
 *   dynamically indexed array in registers.
 * - `@if (TRANSPOSED == 1) { ... } @else { ... }` keeps one of two bodies.
 * - `$NAME` and `$(expression)` are integers over loop variables and the kernel's constants.
 */

/** Integers that a shader text may name. */
export type Constants = Readonly<Record<string, number>>;

/** One `@group(0) @binding(n)` of a shader. */
export interface Binding {
  readonly index: number;
  readonly name: string;
  readonly access: "read" | "read_write";
}

/** One 4-byte scalar of the shader's `Params`. */
export interface ParamField {
  readonly name: string;
  readonly type: "u32" | "i32" | "f32";
}

/** What a shader declares; the dispatch is checked against it. */
export interface ShaderInterface {
  readonly params: readonly ParamField[];
  readonly bindings: readonly Binding[];
}

/**
 * Expands `@unroll`, `@if` and `$` in WGSL text.
 *
 * @throws {SyntaxError} on an unknown name, an unbalanced brace or a malformed directive
 * @example Four accumulators
 * ```ts
 * expandWgsl("@unroll(i, 0, 2) { var acc$i = 0.0; }", {}); // " var acc0 = 0.0;  var acc1 = 0.0; "
 * ```
 */
export function expandWgsl(text: string, constants: Constants): string {
  let out = "";
  let at = 0;
  const directive = /\/\/[^\n]*|@unroll\s*\(|@if\s*\(|\$\(|\$([A-Za-z][A-Za-z0-9]*)/g;
  while (true) {
    directive.lastIndex = at;
    const match = directive.exec(text);
    if (!match) return out + text.slice(at);
    out += text.slice(at, match.index);
    at = directive.lastIndex;
    if (match[0].startsWith("//")) continue; // comments may mention the directives
    if (match[1] !== undefined) {
      out += evaluate(match[1], constants);
      continue;
    }
    const [inside, afterParenthesis] = balanced(text, at - 1, "(", ")");
    at = afterParenthesis;
    if (match[0] === "$(") {
      out += evaluate(inside, constants);
    } else if (match[0].startsWith("@unroll")) {
      const [body, end] = block(text, at);
      at = end;
      const [variable, from, to] = inside.split(",").map((part) => part.trim());
      if (!variable || !from || !to) throw new SyntaxError(`@unroll(${inside}) needs (name, from, to).`);
      const last = evaluate(to, constants);
      for (let i = evaluate(from, constants); i < last; i++) {
        out += expandWgsl(body, { ...constants, [variable]: i });
      }
    } else {
      const [body, end] = block(text, at);
      at = end;
      let otherwise = "";
      const elseMatch = /^\s*@else\b/.exec(text.slice(at));
      if (elseMatch) [otherwise, at] = block(text, at + elseMatch[0].length);
      out += expandWgsl(evaluate(inside, constants) ? body : otherwise, constants);
    }
  }
}

/** Reads the `Params` fields and the bindings that a shader declares. */
export function readShaderInterface(name: string, code: string): ShaderInterface {
  const plain = code.replace(/\/\/[^\n]*/g, "");
  const struct = /struct\s+Params\s*\{([^}]*)\}/.exec(plain);
  const params = (struct?.[1] ?? "").split(",").map((line) => line.trim()).filter((line) => line !== "").map(
    (line) => {
      const field = /^(\w+)\s*:\s*(u32|i32|f32)$/.exec(line);
      if (!field) {
        throw new SyntaxError(`${name}: Params may hold u32, i32 and f32 fields only, not "${line}".`);
      }
      return { name: field[1]!, type: field[2] as ParamField["type"] };
    },
  );
  const bindings: Binding[] = [];
  for (
    const match of plain.matchAll(
      /@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>\s*(\w+)/g,
    )
  ) {
    bindings.push({ index: Number(match[1]), name: match[3]!, access: match[2] as Binding["access"] });
  }
  return { params, bindings };
}

function block(text: string, from: number): [string, number] {
  const open = text.indexOf("{", from);
  if (open < 0 || text.slice(from, open).trim() !== "") {
    throw new SyntaxError("A directive must be followed by { ... }.");
  }
  return balanced(text, open, "{", "}");
}

/** The text between the bracket at `open` and its partner, and the place after it. */
function balanced(text: string, open: number, left: string, right: string): [string, number] {
  let depth = 0;
  for (let i = open; i < text.length; i++) {
    if (text[i] === left) depth++;
    else if (text[i] === right && --depth === 0) return [text.slice(open + 1, i), i + 1];
  }
  throw new SyntaxError(`Unbalanced ${left} in WGSL text.`);
}

/** Integer expressions: || && == != < > <= >= + - * / % ( ), integers and names; / truncates. */
function evaluate(expression: string, names: Constants): number {
  const tokens = expression.match(/\d+|[A-Za-z]\w*|\|\||&&|==|!=|<=|>=|\S/g) ?? [];
  let at = 0;
  const levels: Record<string, (a: number, b: number) => number>[] = [
    { "||": (a, b) => a || b },
    { "&&": (a, b) => a && b },
    { "==": (a, b) => +(a === b), "!=": (a, b) => +(a !== b) },
    {
      "<": (a, b) => +(a < b),
      ">": (a, b) => +(a > b),
      "<=": (a, b) => +(a <= b),
      ">=": (a, b) => +(a >= b),
    },
    { "+": (a, b) => a + b, "-": (a, b) => a - b },
    { "*": (a, b) => a * b, "/": (a, b) => Math.trunc(a / b), "%": (a, b) => a % b },
  ];
  const level = (n: number): number => {
    const operators = levels[n];
    if (!operators) return atom();
    let value = level(n + 1);
    for (let op = operators[tokens[at] ?? ""]; op; op = operators[tokens[at] ?? ""]) {
      at++;
      value = op(value, level(n + 1));
    }
    return value;
  };
  const atom = (): number => {
    const token = tokens[at++];
    if (token === "(") {
      const value = level(0);
      if (tokens[at++] !== ")") throw new SyntaxError(`Unbalanced ( in "${expression}".`);
      return value;
    }
    if (token !== undefined && /^\d/.test(token)) return Number(token);
    const value = token === undefined ? undefined : names[token];
    if (value === undefined) throw new SyntaxError(`"${token ?? "end"}" is not known in "${expression}".`);
    return value;
  };
  const value = level(0);
  if (at !== tokens.length) throw new SyntaxError(`Cannot read "${expression}" as an integer expression.`);
  return value;
}
