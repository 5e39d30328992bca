/** Rows as text: what a chat template makes of a prompt and its responses, or strings as they are. */
import { InputError } from "../errors.ts";
import { commonTextPrefix } from "./_common_prefix.ts";
import { Marks } from "./_marks.ts";
import type { TextSettings } from "./encode.ts";
import type { Comparison, Message, Text } from "./rows.ts";
import type { Tokenizer } from "./tokenizer.ts";

/**
 * Each response's [prompt, response] as text, and what makes tokens of such texts.
 *
 * @throws {InputError} where text cannot be templated
 */
export function textsOf(tokenizer: Tokenizer, comparison: Comparison, settings: TextSettings): {
  readonly texts: readonly (readonly [string, string])[];
  readonly encode: (text: string) => number[];
} {
  const asked = settings.split_special_tokens ?? undefined;
  const isMixed = asked === true && !isPlain(comparison);
  const marks = isMixed
    ? Marks.for(tokenizer, comparison, [tokenizer.chatTemplate, settings.chat_template_kwargs])
    : null;
  if (marks === null) {
    const split_special_tokens = isMixed ? false : asked;
    return {
      texts: templated(tokenizer, comparison, settings),
      encode: (text) => tokenizer.encode(text, { split_special_tokens }),
    };
  }
  try {
    return {
      texts: templated(tokenizer, marks.mark(comparison), settings),
      encode: (marked) => {
        const { text, literal } = marks.read(marked);
        return tokenizer.encode(text, { literal });
      },
    };
  } catch (error) {
    throw marks.unmarkError(error);
  }
}

/** Whether no template has a part in a row's text. */
function isPlain({ prompt, responses }: Comparison): boolean {
  return typeof prompt === "string" && responses.every((response) => typeof response === "string");
}

/** Turns as text, by a template that is given what the conversation is to have beside them. */
type Render = (messages: readonly Message[], addGenerationPrompt?: boolean) => string;

/** Each response's [prompt, response] as text. */
function templated(
  tokenizer: Tokenizer,
  comparison: Comparison,
  { prompt_boundary: boundary, chat_template_kwargs }: TextSettings,
): (readonly [string, string])[] {
  const { prompt, responses, tools, chat_template_kwargs: own } = comparison;
  if (isPlain(comparison)) return responses.map((response) => [prompt as string, response as string]);
  const kwargs = own === undefined ? chat_template_kwargs : { ...chat_template_kwargs, ...own };
  const render: Render = (messages, addGenerationPrompt = false) =>
    messages.length === 0 ? "" : tokenizer.renderChat(messages, { addGenerationPrompt, tools, kwargs });
  const given = asMessages(prompt, "user");
  const turns = boundary === "simpo" ? withSystemTurn(tokenizer, given, render) : given;
  const answers = responses.map((response) => asMessages(response, "assistant"));
  const last = turns.at(-1);
  if (last?.role === "assistant" && answers.every(([first]) => first?.role === "assistant")) {
    return continued(render, turns.slice(0, -1), last, answers);
  }
  const opened = render(turns, boundary === "trl" && last?.role !== "assistant");

  return answers.map((answer) => {
    const full = render([...turns, ...answer]);
    if (boundary === "simpo" && !full.startsWith(opened)) {
      return [opened, withoutBos(tokenizer, render(answer))];
    }
    // TRL: where the template opens a turn otherwise than it writes it (an empty <think>), the prompt is what both have.
    // The authors template the response apart; the end of the whole is the same text for the templates they used, and is
    // right too for templates that refuse a conversation without a user turn or put a system turn before it.
    return splitAt(opened, full);
  });
}

/** A prompt that ends in the midst of the assistant's turn: each response goes on with it. */
function continued(
  render: Render,
  turns: readonly Message[],
  begun: Message,
  answers: readonly (readonly Message[])[],
): (readonly [string, string])[] {
  const content = begun.content ?? "";
  const marked = { ...begun, content: content + CONTINUED };
  const opened = content.trim() === "" ? render(turns, true) : upTo(render([...turns, marked]), content);
  return answers.map(([first, ...rest]) => {
    const whole = { ...begun, ...first!, content: content + (first!.content ?? "") };
    return splitAt(opened, render([...turns, whole, ...rest]));
  });
}

/** Stands behind what is continued, as in transformers: where a template trims, its space goes. */
const CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG ";

/** A conversation's text up to the mark: transformers' `continue_final_message`. */
function upTo(text: string, content: string): string {
  const at = text.lastIndexOf(CONTINUED.trim());
  if (at < 0) {
    throw new InputError("The chat template does not write the assistant's turn that is to be continued.", {
      value: content,
      accepted: "a prompt that ends with another turn",
    });
  }
  const before = text.slice(0, at);
  return text.startsWith(CONTINUED, at) ? before : before.trimEnd();
}

function splitAt(opened: string, full: string): readonly [string, string] {
  const split = commonTextPrefix(opened, full);
  return [full.slice(0, split), full.slice(split)];
}

function asMessages(text: Text, role: string): readonly Message[] {
  if (typeof text !== "string") return text;
  return text === "" ? [] : [{ role, content: text }];
}

/** The authors' condition on the template's source; theirs fails where the template refuses system turns all the same. */
function withSystemTurn(tokenizer: Tokenizer, turns: readonly Message[], render: Render): readonly Message[] {
  const named = /system|<\|im_start\|>/.test(tokenizer.chatTemplate ?? "");
  if (!named || turns.length === 0 || turns[0]?.role === "system") return turns;
  const begun = [{ role: "system", content: "" }, ...turns];
  try {
    render(begun);
    return begun;
  } catch (error) {
    if (error instanceof InputError) return turns;
    throw error;
  }
}

function withoutBos(tokenizer: Tokenizer, text: string): string {
  const bos = tokenizer.bos === null ? "" : tokenizer.token(tokenizer.bos);
  return text.startsWith(bos) ? text.slice(bos.length) : text;
}
