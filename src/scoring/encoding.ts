/** How a request's items become tokens, a job's values where the request leaves them out. */
import type { z } from "zod";
import type { Encoding, encodingFields, ScoredItem } from "../api/score.ts";
import { DEFAULT_MAX_PROMPT_LENGTH } from "../api/fields.ts";
import type { TrainingSettings } from "../api/settings.ts";
import { InputError } from "../errors.ts";
import type { Quantization } from "../model/quantization.ts";
import { DEFAULT_ENCODING, type ScoreEncoding, type ScoreRequest } from "./request.ts";

/** The fields as they came. */
type Given = z.infer<z.ZodObject<typeof encodingFields>>;

/** What {@link Encoding} says beside what the engine does. */
type Names = Omit<Encoding, keyof ScoredItem["encoding"]>;

/** What goes to the engine. */
type ForEngine = Required<Pick<ScoreRequest, "chat_template">> & { readonly encoding: ScoreEncoding };

/**
 * Fills in what a request leaves out: a job's own values, else the defaults.
 *
 * @param job of which the weights are; null: of none
 * @throws {InputError} where max_prompt_length leaves no room for a response
 */
export function encodingOf(given: Given, job: TrainingSettings | null): ForEngine {
  const fallback = { ...DEFAULT_ENCODING, ...job && encodingOfJob(job) };
  const { max_length = fallback.max_length, chat_template_kwargs = fallback.chat_template_kwargs } = given;
  const { split_special_tokens = fallback.split_special_tokens } = given; // null is an answer
  return {
    // one that a job names stands as text beside its weights
    chat_template: given.chat_template ?? (job?.chat_template?.includes("{") ? job.chat_template : null),
    encoding: {
      prompt_boundary: given.prompt_boundary ?? fallback.prompt_boundary,
      max_length,
      max_prompt_length: maxPromptLength(given, max_length, fallback.max_prompt_length),
      truncation_mode: given.truncation_mode ?? fallback.truncation_mode,
      add_eos_token: given.add_eos_token ?? fallback.add_eos_token,
      chat_template_kwargs,
      split_special_tokens,
    },
  };
}

/** What a job's rows become tokens by, as fields of `POST /score`. */
export function encodingOfJob(settings: TrainingSettings): Omit<ScoreEncoding, "add_eos_token"> {
  const { prompt_boundary, max_length, max_prompt_length, truncation_mode, chat_template_kwargs } = settings;
  return {
    prompt_boundary,
    max_length,
    max_prompt_length,
    truncation_mode,
    chat_template_kwargs: chat_template_kwargs ?? null,
    split_special_tokens: settings.split_special_tokens ?? null,
  };
}

/** What an answer says beside the engine's part. */
export function namesOf(
  given: Given,
  job: TrainingSettings | null,
  { chat_template_kwargs }: ScoreEncoding,
  quantization: Quantization | null,
): Names {
  return {
    chat_template: given.chat_template != null ? "request" : job?.chat_template != null ? "job" : "files",
    chat_template_kwargs,
    quantization,
  };
}

/** As `POST /train` has it beside a max_length; null where neither is given, nor of a job. */
function maxPromptLength(
  { max_length: givenLength, max_prompt_length: given }: Given,
  max_length: number | null,
  fallback: number | null,
): number | null {
  if (given === null || max_length === null && given === undefined) return null;
  if (given === undefined) {
    return givenLength === undefined
      ? fallback
      : Math.min(fallback ?? DEFAULT_MAX_PROMPT_LENGTH, max_length! - 1);
  }
  if (max_length === null || given < max_length) return given;
  const accepted = `a whole number less than ${max_length}`;
  throw new InputError(
    (field) => `${field} must leave room for a response: less than max_length ${max_length}, not ${given}.`,
    { path: ["max_prompt_length"], value: given, accepted },
  );
}
