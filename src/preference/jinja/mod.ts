/**
 * Jinja2 as transformers calls it, bounded: `trim_blocks` and `lstrip_blocks`, the immutable sandbox, `break` and `continue`,
 * the tag `generation`, and `tojson`, `raise_exception` and `strftime_now`. docs/templates.md says what is not there.
 *
 * A source becomes tokens (`lexer.ts`), a tree (`parser.ts`), and functions (`compile.ts`), whose values are Python's
 * (`values.ts`); what they use up is charged to a budget (`budget.ts`).
 *
 * @module
 */
import { LIMITS, type Limits, withBudget } from "./budget.ts";
import { compile } from "./compile.ts";
import { globals } from "./globals.ts";
import { parse } from "./parser.ts";
import { fromJson, type Value } from "./values.ts";

export { BoundError, TemplateError, TemplateSyntaxError, UnsupportedError } from "./errors.ts";
export { LIMITS, type Limits } from "./budget.ts";
export { Float } from "./values.ts";

/** What a rendering goes by. */
export interface RenderOptions {
  /** What `strftime_now` writes, by its UTC fields. */
  readonly now: Date;
  readonly limits?: Limits;
}

/**
 * A template, ready to be rendered any number of times.
 *
 * @example A list, with Python's spelling of values
 * ```ts
 * import assert from "node:assert/strict";
 * import { Template } from "./mod.ts";
 * const template = new Template("{% for x in xs %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}");
 * assert.equal(template.render({ xs: [1, true, null] }, { now: new Date(0) }), "1, True, None");
 * ```
 */
export class Template {
  readonly #write: ReturnType<typeof compile>;

  /** @throws {TemplateError} where the source is no template, or one that Jinja2 or this engine does not take */
  constructor(source: string) {
    this.#write = withBudget(LIMITS, () => compile(parse(source)));
  }

  /**
   * @param variables JSON's values by name
   * @throws {TemplateError} where the template raises, fails, or passes a limit
   */
  render(variables: Readonly<Record<string, unknown>>, { now, limits = LIMITS }: RenderOptions): string {
    return withBudget(limits, () => {
      const context = new Map<string, Value>(globals(now));
      for (const [name, value] of Object.entries(variables)) context.set(name, fromJson(value));
      const rendering = { context, output: "" };
      this.#write(rendering);
      return rendering.output;
    });
  }
}
