/** What a template is refused for. All have a message for whoever wrote the template. */

/** The template fails as it would in Jinja2: it raises, or does what Python refuses. */
export class TemplateError extends Error {
  override readonly name: string = "TemplateError";
}

/** The source is not Jinja. */
export class TemplateSyntaxError extends TemplateError {
  override readonly name = "TemplateSyntaxError";

  constructor(message: string, readonly line: number) {
    super(`${message} (line ${line})`);
  }
}

/** Jinja2 knows this construct and this engine does not: refused by name, so that nobody gets another text. */
export class UnsupportedError extends TemplateError {
  override readonly name = "UnsupportedError";

  constructor(construct: string) {
    super(`${construct} is not supported`);
  }
}

/** The template goes on for too long, or makes too much. */
export class BoundError extends TemplateError {
  override readonly name = "BoundError";
}

/** @throws {TemplateError} always: a Python error in an expression */
export function fail(message: string): never {
  throw new TemplateError(message);
}
