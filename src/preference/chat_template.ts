import { InputError, mustBe } from "../errors.ts";
import { type BoundError, Template } from "./jinja/mod.ts";

/**
 * The date that `strftime_now` writes: the one that Llama 3's own templates fall back to. Today's, which transformers
 * takes, would make a job resumed after midnight, or a score of the next day, see other tokens.
 */
export const templateDate = "2024-07-26";

/** A conversation for a template. */
export interface Chat {
  /** Turns: role and content, with what else templates know of. */
  readonly messages: readonly object[];
  /** Whether the text ends with the opening of the assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Functions that the assistant may call, as JSON schemas. */
  readonly tools?: readonly unknown[] | null | undefined;
  /** `bos_token` and so on. */
  readonly specialTokens?: Readonly<Record<string, string>> | undefined;
  /**
   * Further variables by name, in place of special tokens where both have one. `strftime_now` is a date, YYYY-MM-DD with
   * a time (THH:MM or THH:MM:SS) or without.
   */
  readonly kwargs?: Readonly<Record<string, unknown>> | null | undefined;
}

/** A chat template as transformers' `apply_chat_template` renders it, but for the clock. */
export class ChatTemplate {
  readonly #template: Template;

  /** @throws {Error} where the source is no template that Jinja2, as transformers calls it, takes */
  constructor(source: string) {
    this.#template = new Template(source);
  }

  /**
   * @throws {Error} where the template raises, fails, or takes too long or too much
   * @throws {InputError} where a further variable cannot be set
   */
  render({ messages, addGenerationPrompt, tools = null, specialTokens, kwargs }: Chat): string {
    const { strftime_now = templateDate, ...variables } = kwargs ?? {};
    for (const name of ["messages", "add_generation_prompt"]) {
      if (name in variables) {
        throw new InputError((field) => `${field} cannot be set: the conversation gives it.`, {
          path: ["chat_template_kwargs", name],
          value: variables[name],
          accepted: "other variables of the template",
        });
      }
    }
    return this.#template.render({
      ...specialTokens,
      tools,
      documents: null,
      ...variables,
      messages: messages.map(turnOf),
      add_generation_prompt: addGenerationPrompt,
    }, { now: dateOf(strftime_now) });
  }
}

/** Names that a turn's reasoning is passed under. */
const REASONING = ["reasoning_content", "thinking", "reasoning"];

/** A turn without what is null, its reasoning under the names that templates read: as transformers gives it to them. */
function turnOf(turn: object): object {
  const given = Object.entries(turn).filter(([, value]) => value !== null && value !== undefined);
  const own = Object.fromEntries(given);
  const name = REASONING.find((name) => own[name] !== undefined);
  if (name === undefined) return given.length === Object.keys(turn).length ? turn : own;
  return { thinking: own[name], ...own, reasoning_content: own[name] };
}

function dateOf(value: unknown): Date {
  const date = typeof value === "string" && /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?)?$/.test(value)
    ? new Date(value.length === 10 ? value : `${value}Z`)
    : null;
  if (date !== null && !Number.isNaN(date.getTime())) return date;
  const accepted = 'a date such as "2024-07-26" or "2024-07-26T12:30"';
  throw mustBe("a date", ["chat_template_kwargs", "strftime_now"], value, accepted);
}

/**
 * The template that transformers takes of several: the one named `tool_use` where there are tools, else `default`.
 *
 * @throws {InputError} where there are templates, and neither of these
 */
export function chooseTemplate(
  templates: ReadonlyMap<string, string>,
  tools: readonly unknown[] | null | undefined,
): string {
  const chosen = (tools == null ? undefined : templates.get("tool_use")) ?? templates.get("default");
  if (chosen !== undefined) return chosen;
  const names = [...templates.keys()].sort();
  throw new InputError(
    `The model has several chat templates and none is the default; name one of ${names.join(", ")}.`,
    { accepted: `chat_template: ${names.map((name) => `"${name}"`).join(" or ")}` },
  );
}

const WITHIN_BOUNDS = "a chat template that stays within its bounds";

/** The user's mistake that a template which has passed a bound is. */
export function stoppedTemplate({ message }: BoundError): InputError {
  return new InputError(`The chat template is stopped: ${message}.`, { accepted: WITHIN_BOUNDS });
}

/** Whether an error is {@link stoppedTemplate}'s: the template is not to be tried with the next conversation. */
export function isTemplateStopped(error: unknown): boolean {
  return error instanceof InputError && error.problem.accepted === WITHIN_BOUNDS;
}
