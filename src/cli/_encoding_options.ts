/** Options of `main.ts score` that are fields of `POST /score` too: `--max-length` is `max_length`. */
import { z } from "zod";
import { encodingFields } from "../api/score.ts";
import type { TrainingSettings } from "../api/settings.ts";
import type { COMMANDS, ValuesOf } from "../commands.ts";
import { InputError, relocated } from "../errors.ts";
import { encodingOf } from "../scoring/encoding.ts";
import { parseWith } from "../validation.ts";

/**
 * What the engine is asked, a job's values where an option is left out.
 *
 * @param chat_template the one that was given
 * @throws {InputError} naming the option
 */
export function encodingOfOptions(
  options: ValuesOf<typeof COMMANDS.score.options>,
  chat_template: string | null,
  job: TrainingSettings | null,
): ReturnType<typeof encodingOf> {
  const given = {
    prompt_boundary: options["prompt-boundary"],
    max_length: jsonOf(options["max-length"]),
    max_prompt_length: jsonOf(options["max-prompt-length"]),
    truncation_mode: options["truncation-mode"],
    chat_template_kwargs: jsonOf(options["chat-template-kwargs"]),
    split_special_tokens: jsonOf(options["split-special-tokens"]),
    ...options["no-eos"] && { add_eos_token: false },
  };
  try {
    return encodingOf({ ...parseWith(z.object(encodingFields), given), chat_template }, job);
  } catch (error) {
    const field = error instanceof InputError ? error.path[0] : undefined;
    throw typeof field === "string" ? relocated(error, [field], [`--${field.replaceAll("_", "-")}`]) : error;
  }
}

/** A value as JSON, or as it is where it is none: the field's type refuses it then. */
export function jsonOf(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return text;
  }
}
