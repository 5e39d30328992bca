import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

/** Most characters of a template that comes with a request; the longest in use have a third of it. */
export const mostTemplateCharacters = 65_536;

/** Statements and expressions that one rendering may evaluate: a thousand turns need a tenth of it. */
const mostSteps = 1_000_000;
/** Milliseconds that it may take: a loop without a body is one step however long, and so is a filter. */
const mostMs = 5_000;
/** Entries of a list and characters of a text that a rendering may make. */
const longest = { list: 2 ** 16, text: 2 ** 24 };

/**
 * A chat template, as transformers renders it but for the clock: Llama 3.2's writes today's date into the system turn where
 * there is `strftime_now`, so that a job resumed after midnight, or a score of the next day, would see other tokens. Without
 * it the template takes its fixed date.
 *
 * A template is a program, and may come with a request: it is stopped where it goes on for seconds or makes something huge.
 */
export class ChatTemplate {
  readonly #program: ReturnType<typeof parse>;

  /** @throws Error where the source is not Jinja */
  constructor(source: string) {
    this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  }

  /** @throws Error where the template raises, fails or takes too long */
  render(variables: Readonly<Record<string, unknown>>): string {
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...globals, ...variables })) environment.set(name, value);
    return String(new BoundedInterpreter(environment).run(this.#program).value);
  }
}

const globals = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  range,
  raise_exception: (message: string) => {
    throw new Error(message);
  },
};

/** Python's range. */
function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!(length <= longest.list)) throw new Error(`range() has ${length} entries`);
  return Array.from({ length }, (_, index) => from + index * step);
}

class BoundedInterpreter extends Interpreter {
  #steps = 0;
  readonly #end = performance.now() + mostMs;

  override evaluate(...args: Parameters<Interpreter["evaluate"]>): ReturnType<Interpreter["evaluate"]> {
    if (++this.#steps > mostSteps) throw new Error(`it takes more than ${mostSteps} steps`);
    if (performance.now() > this.#end) throw new Error(`it takes more than ${mostMs} ms`);
    const result = super.evaluate(...args);
    const { value } = result;
    const kind = Array.isArray(value) ? "list" : typeof value === "string" ? "text" : null;
    if (kind !== null && (value as ArrayLike<unknown>).length > longest[kind]) {
      throw new Error(`it makes a ${kind} of more than ${longest[kind]}`);
    }
    return result;
  }
}
