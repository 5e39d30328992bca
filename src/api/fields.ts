/** Fields that several requests have. */
import { z } from "zod";
import { isDeeper, mostDepth } from "../json.ts";
import { QUANTIZATIONS } from "../model/quantization.ts";
import { mapping, most, text } from "./limits.ts";

/** Most characters of a template that comes with a request; the longest in use have a third of it. */
const mostTemplateCharacters = 65_536;

/** Tokens that a prompt is cut to where nothing else says it: the authors' trainer's default. */
export const DEFAULT_MAX_PROMPT_LENGTH = 128;

/** The source of a template, or the name of one of the model's, which is a template too; `checkChatTemplate` reads it. */
export const ChatTemplateSchema = text(mostTemplateCharacters, 1).meta({
  description:
    "Jinja source that conversations are written with, in place of the model's own; or the name of one of the " +
    "model's templates, where it has several.",
  example: "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}",
});

/** How a request that scores wants the model's weights held. */
export const quantizationField = z.enum(QUANTIZATIONS).nullable().optional().describe(
  "int8: the model's linear layers are held in 8 bits; null: as their file has them. Left out, what a job was trained " +
    "with where the job's id is given, else null.",
);

/** What is said of a value that goes deeper than {@link mostDepth}. */
export const tooDeep = `is nested more than ${mostDepth} deep.`;

/** What a template is given by us, and what `apply_chat_template` takes for itself. */
const RESERVED = ["messages", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize"];
/** Of {@link ChatTemplateKwargsSchema}'s JSON. */
const mostKwargsCharacters = 65_536;
const kwargs = `an object of JSON values, ${mostKwargsCharacters} characters of JSON at most`;

/** Variables for a chat template. */
export const ChatTemplateKwargsSchema = mapping(text(most.nameCharacters), z.unknown(), { max: most.keys })
  .superRefine(
    (values, context) => {
      const refuse = (message: string, path: string[] = [], accepted = kwargs) =>
        context.addIssue({ code: "custom", path, message, params: { accepted, predicate: true } });
      const reserved = RESERVED.find((name) => Object.hasOwn(values, name));
      if (reserved !== undefined) {
        return refuse(
          "is not a template's variable to give here.",
          [reserved],
          `none of ${RESERVED.join(", ")}`,
        );
      }
      if (isDeeper(values, mostDepth)) return refuse(tooDeep);
      const { length } = JSON.stringify(values);
      if (length > mostKwargsCharacters) refuse(`has ${length} characters of JSON: give ${kwargs}.`);
    },
  ).meta({
    description:
      "Further variables for the chat template by name, as apply_chat_template and vLLM take them.",
    example: { enable_thinking: false },
  });

/** Where a prompt ends, in training as in scoring. */
export const promptBoundaryField = z.enum(["trl", "simpo"]);

/** Which end of a prompt stays. */
export const truncationModeField = z.enum(["keep_end", "keep_start"]);

/** Whose special tokens are tokens, in training as in scoring. */
export const splitSpecialTokensField = z.boolean().nullable();

/** What is said of {@link splitSpecialTokensField}. */
export const splitSpecialTokens =
  "true, for text that is not trusted: special tokens that the data spells (in prompts, responses, turns, tools, variables " +
  "of a row) are ordinary text, those that the chat template writes are tokens. false: both are tokens. null: as " +
  "split_special_tokens in the tokenizer's files, mostly false, has it for all of the text.";
