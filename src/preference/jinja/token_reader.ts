import { BoundError, TemplateSyntaxError } from "./errors.ts";
import { lineOf, type Token, tokenize } from "./lexer.ts";

/** Levels of expressions and blocks within each other. */
const MOST_LEVELS = 80;
/** Operators, subscripts and the like that one expression may have in a row: the tree has a level for each. */
const MOST_LINKS = 400;

/** Goes through a template's tokens, and refuses what does not belong where it stands. */
export class TokenReader {
  readonly #source: string;
  readonly #tokens: readonly Token[];
  #at = 0;
  #levels = 0;

  constructor(source: string) {
    this.#source = source;
    this.#tokens = tokenize(source);
  }

  protected get token(): Token {
    return this.#tokens[this.#at]!;
  }

  protected next(): Token {
    const token = this.token;
    if (token.type !== "eof") this.#at++;
    return token;
  }

  protected is(type: Token["type"], value?: string, ahead = 0): boolean {
    const token = this.#tokens[Math.min(this.#at + ahead, this.#tokens.length - 1)]!;
    return token.type === type && (value === undefined || token.value === value);
  }

  protected skip(type: Token["type"], value: string): boolean {
    const is = this.is(type, value);
    if (is) this.#at++;
    return is;
  }

  protected expect(type: Token["type"], value?: string): Token {
    if (this.is(type, value)) return this.next();
    return this.refuse(
      `expected ${value === undefined ? describe(type) : `'${value}'`}, got ${this.found()}`,
    );
  }

  /** Entries with commas between them, up to a token, which is not taken. */
  protected separated<T>(type: Token["type"], value: string | undefined, entry: () => T): T[] {
    const entries: T[] = [];
    while (!this.is(type, value)) {
      if (entries.length > 0) this.expect("operator", ",");
      entries.push(entry());
    }
    return entries;
  }

  protected found(): string {
    const { type, value } = this.token;
    return type === "name" || type === "operator" ? `'${value}'` : describe(type);
  }

  protected refuse(message: string): never {
    throw new TemplateSyntaxError(message, lineOf(this.#source, this.token.at));
  }

  /** @throws {BoundError} */
  protected nested<T>(work: () => T): T {
    if (++this.#levels > MOST_LEVELS) {
      throw new BoundError(`it is nested more than ${MOST_LEVELS} levels deep`);
    }
    const result = work();
    this.#levels--;
    return result;
  }

  /** @throws {BoundError} */
  protected link(count: number): void {
    if (count > MOST_LINKS) throw new BoundError(`an expression has more than ${MOST_LINKS} links in a row`);
  }
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
