/** `POST /score`. */
import { z } from "zod";
import { refuseField, strictObject } from "../validation.ts";
import { list, most, mostBeta, mostTokens, positive, text, wholeNumber } from "./limits.ts";
import {
  ChatTemplateKwargsSchema,
  ChatTemplateSchema,
  promptBoundaryField,
  quantizationField,
  splitSpecialTokens,
  splitSpecialTokensField,
  truncationModeField,
} from "./fields.ts";
import { checkItem, itemFields, ItemSchema } from "./score_item.ts";

/** The scale of rewards where none is given. */
export const defaultBeta = 2;

/** How items become tokens; left out, a job's own values where its id is the adapter. */
export const encodingFields = {
  prompt_boundary: promptBoundaryField.optional().describe(
    "As in POST /train. Left out: the job's where the adapter is a job's id, else trl.",
  ),
  max_length: wholeNumber(2, mostTokens).nullable().optional().describe(
    "Tokens of a prompt and one candidate together, as in POST /train; never more than the model's context. " +
      "Left out: the job's where the adapter is a job's id. Where it and max_prompt_length are null or left out without " +
      "a job, the prompt is cut to what the longest candidate leaves of the context, and no candidate is cut.",
  ),
  max_prompt_length: wholeNumber(1, mostTokens).nullable().optional().describe(
    "Tokens a prompt is cut to where it and the longest candidate exceed max_length, before candidates are cut, as in " +
      "POST /train. Left out: the job's where the adapter is a job's id, else 128 beside a max_length; always less than that.",
  ),
  truncation_mode: truncationModeField.optional().describe(
    "Which end of a cut prompt stays. Left out: the job's where the adapter is a job's id, else keep_end.",
  ),
  add_eos_token: z.boolean().optional().describe(
    "Whether EOS is added behind a candidate of text that does not end with it, and counted among its tokens, as " +
      "training does. true where it is left out. An end that the chat template writes is the template's.",
  ),
  chat_template: ChatTemplateSchema.nullable().optional(),
  chat_template_kwargs: ChatTemplateKwargsSchema.nullable().optional().meta({
    description:
      "Further variables for the chat template by name. Left out: the job's where the adapter is a job's id.",
    example: { enable_thinking: false },
  }),
  split_special_tokens: splitSpecialTokensField.optional().describe(
    `${splitSpecialTokens} Left out: the job's where the adapter is a job's id. Not for token ids.`,
  ),
};

/** The body of `POST /score`. */
export const ScoreRequestSchema = strictObject({
  model: text(most.nameCharacters).meta({
    description:
      "Folder of the model, relative to the root; or hf://org/name, downloaded by the first call that names it.",
    example: "models/llama",
  }),
  adapter: text(most.nameCharacters).nullable().optional().describe(
    "Folder of a PEFT adapter or of full weights, relative to the root; hf://org/name; or the id of a training job: its " +
      "result, or while it runs its newest checkpoint.",
  ),
  quantization: quantizationField,
  prompt: itemFields.prompt.optional(),
  messages: itemFields.messages.optional(),
  candidates: itemFields.candidates.optional(),
  tools: itemFields.tools,
  items: list(ItemSchema, { min: 1, max: most.items }).optional().describe(
    "Many prompts, each with its own candidates.",
  ),
  ...encodingFields,
  beta: positive(mostBeta).default(defaultBeta).describe(
    "A candidate's reward is beta times its average log-prob.",
  ),
  token_logprobs: z.boolean().default(false).describe("Whether to answer each token with its log-prob."),
}).superRefine((body, context) => {
  if (body.items !== undefined) {
    const beside = (["prompt", "messages", "candidates", "tools"] as const).find((field) =>
      body[field] !== undefined
    );
    if (beside === undefined) return;
    const accepted = "items alone, or a prompt with candidates";
    return refuseField(context, [beside], `${beside} and items are both given: give one of them.`, accepted);
  }
  if (body.candidates !== undefined || (body.prompt === undefined) === (body.messages === undefined)) {
    return checkItem(body, context);
  }
  const accepted = "a list of at least 1 item";
  refuseField(context, ["candidates"], `candidates is missing: give ${accepted}.`, accepted);
}).meta({
  id: "ScoreRequest",
  oneOf: [
    { required: ["prompt", "candidates"] },
    { required: ["messages", "candidates"] },
    {
      required: ["items"],
      not: { anyOf: ["prompt", "messages", "candidates", "tools"].map((field) => ({ required: [field] })) },
    },
  ],
});

/** See {@link ScoreRequestSchema}. */
export type ScoreBody = z.infer<typeof ScoreRequestSchema>;

/** One candidate's score; log-probs are natural logarithms. */
const CandidateSchema = z.object({
  index: z.number().int().describe("Place in the request, from 0."),
  rank: z.number().int().nullable().describe(
    "1 is the best; ties keep the request's order; null without a score.",
  ),
  average_logprob: z.number().nullable().describe("null without a score."),
  sum_logprob: z.number().nullable(),
  num_tokens: z.number().int().describe("Scored tokens of the response, EOS among them where it is added."),
  reward: z.number().nullable(),
  truncated: z.boolean().describe("Whether tokens of the candidate or of its prompt were cut."),
  candidate_truncated: z.boolean().describe("Whether tokens of the candidate itself were cut."),
  reason: z.string().optional().describe("Why there is no score; left out where there is one."),
  tokens: z.array(z.string()).optional(),
  token_logprobs: z.array(z.number()).optional(),
}).meta({ id: "ScoredCandidate" });

/** See {@link CandidateSchema}. */
export type ScoredCandidate = z.infer<typeof CandidateSchema>;

/** Tokens that an item took; a prompt counts once for all its candidates. */
const UsageSchema = z.object({
  prompt_tokens: z.number().int(),
  cached_prompt_tokens: z.number().int().describe(
    "Of those, tokens that an earlier prompt had in the same place: they were not computed again.",
  ),
  candidate_tokens: z.number().int(),
  total_tokens: z.number().int(),
}).meta({ id: "Usage" });

/** See {@link UsageSchema}. */
export type Usage = z.infer<typeof UsageSchema>;

const used = {
  prompt_boundary: promptBoundaryField,
  max_length: z.number().int(),
  max_prompt_length: z.number().int().nullable().describe(
    "null: what the longest candidate leaves of max_length.",
  ),
  truncation_mode: truncationModeField,
  add_eos_token: z.boolean(),
  split_special_tokens: splitSpecialTokensField.describe("null: as the tokenizer's files say."),
};

/** What the text of a request became tokens by. */
const EncodingSchema = z.object({
  ...used,
  chat_template: z.enum(["request", "job", "files"]).describe(
    "Whose: the request's, the job's, or that in the adapter's or the model's files.",
  ),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullable(),
  quantization: quantizationField.unwrap(),
}).meta({ id: "Encoding", description: "The values that were used, the job's among them." });

/** See {@link EncodingSchema}. */
export type Encoding = z.infer<typeof EncodingSchema>;

/** As much of it as the engine is asked for. */
export type UsedEncoding = Readonly<Omit<Encoding, "chat_template" | "quantization">>;

const scored = {
  results: z.array(CandidateSchema).describe("In the candidates' order."),
  best: z.number().int().nullable().describe(
    "Index of the candidate ranked first; null where none has a score.",
  ),
  margin: z.number().nullable().describe(
    "The best's average log-prob over the second's; null where fewer than two have one.",
  ),
  prompt_truncated: z.number().int().describe("Tokens of the prompt that were cut."),
};

/** The answer about one prompt. */
const OneAnswerSchema = z.object({
  model: z.string(),
  ...scored,
  encoding: EncodingSchema,
  usage: UsageSchema,
}).meta({ id: "ScoreAnswer" });

/** The answer about `items`, in their order. */
const ManyAnswerSchema = z.object({
  model: z.string(),
  items: z.array(z.object(scored)),
  encoding: EncodingSchema,
  usage: UsageSchema,
}).meta({ id: "ScoreAnswers" });

/** The answer of `POST /score`. */
export const ScoreAnswerSchema = z.union([OneAnswerSchema, ManyAnswerSchema]);

/** See {@link ScoreAnswerSchema}. */
export type ScoreAnswer = z.infer<typeof ScoreAnswerSchema>;

/** A line of the answer as NDJSON. */
export const ScoreLineSchema = z.object({
  index: z.number().int(),
  ...scored,
  encoding: EncodingSchema.optional().describe("On the first line: it is that of all."),
  usage: UsageSchema,
}).meta({
  id: "ScoreLine",
  description:
    "One line an item, as they are done. Where scoring fails on the way, the last line is a Problem.",
});

/** A prompt's candidates, compared, as the engine answers. */
const ScoredItemSchema = z.object({ ...scored, encoding: z.object(used), usage: UsageSchema });

/** See {@link ScoredItemSchema}. */
export type ScoredItem = z.infer<typeof ScoredItemSchema>;
