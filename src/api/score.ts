/** `POST /score`, and the lines of a scoring file. */
import { z } from "zod";
import { refuseField, strictObject } from "../validation.ts";
import { ChatTemplateSchema, quantizationField } from "./fields.ts";

/** The scale of rewards where none is given. */
export const defaultBeta = 2;

const MessageSchema = z.looseObject({ role: z.string().min(1), content: z.string() }).meta({
  id: "Message",
  description: "One turn. Further keys reach the model's chat template as they are.",
});

const ConversationSchema = z.array(MessageSchema).min(1);

/** The fields of an item, each as it is where it is given. */
const fields = {
  prompt: z.union([z.string(), ConversationSchema], { error: "a string or a list of messages" }).meta({
    description: "Plain text, taken as it is; or a conversation, as rows of preference data have it.",
    example: "2 + 2 =",
  }),
  messages: ConversationSchema.meta({
    description: "A conversation, which the model's chat template turns into text.",
  }),
  candidates: z.array(z.string().min(1)).min(1).meta({
    description: "Responses to compare; with messages each is an assistant's turn.",
    example: [" 4", " 5"],
  }),
};

/** What is accepted where {@link promptProblem} finds fault. */
const oneOfPromptAndMessages =
  "one of prompt (a string or a list of messages) and messages (a list of messages)";

/** Why an item with these fields is refused; undefined: it is not. */
function promptProblem(item: { prompt?: unknown; messages?: unknown }): string | undefined {
  if (item.prompt !== undefined && item.messages !== undefined) {
    return `prompt and messages are both given: give ${oneOfPromptAndMessages}.`;
  }
  if (item.prompt === undefined && item.messages === undefined) {
    return `prompt is missing: give ${oneOfPromptAndMessages}.`;
  }
  return undefined;
}

/** One prompt with its candidates. */
export const ItemSchema = strictObject({
  prompt: fields.prompt.optional(),
  messages: fields.messages.optional(),
  candidates: fields.candidates,
}).superRefine((item, context) => {
  const why = promptProblem(item);
  if (why !== undefined) refuseField(context, ["prompt"], why, oneOfPromptAndMessages);
}).meta({ id: "ScoreItem", oneOf: [{ required: ["prompt"] }, { required: ["messages"] }] });

/** See {@link ItemSchema}. */
export type Item = z.infer<typeof ItemSchema>;

/** The body of `POST /score`. */
export const ScoreRequestSchema = strictObject({
  model: z.string().meta({
    description:
      "Folder of the model, relative to the root; or hf://org/name, downloaded by the first call that names it.",
    example: "models/llama",
  }),
  adapter: z.string().nullable().optional().meta({
    description:
      "Folder of a PEFT adapter or of full weights, relative to the root; hf://org/name; or the id of a training job: its " +
      "result, or while it runs its newest checkpoint.",
  }),
  quantization: quantizationField,
  prompt: fields.prompt.optional(),
  messages: fields.messages.optional(),
  candidates: fields.candidates.optional(),
  items: z.array(ItemSchema).min(1).optional().meta({
    description: "Many prompts, each with its own candidates.",
  }),
  chat_template: ChatTemplateSchema.nullable().optional(),
  beta: z.number().positive().default(defaultBeta).meta({
    description: "A candidate's reward is beta times its average log-prob.",
  }),
  token_logprobs: z.boolean().default(false).meta({
    description: "Whether to answer each token with its log-prob.",
  }),
}).superRefine((body, context) => {
  if (body.items !== undefined) {
    const beside = (["prompt", "messages", "candidates"] as const).find((field) => body[field] !== undefined);
    if (beside === undefined) return;
    const accepted = "items alone, or a prompt with candidates";
    return refuseField(context, [beside], `${beside} and items are both given: give one of them.`, accepted);
  }
  const why = promptProblem(body);
  if (why !== undefined) return refuseField(context, ["prompt"], why, oneOfPromptAndMessages);
  if (body.candidates !== undefined) return;
  const accepted = "a list of at least 1 item";
  refuseField(context, ["candidates"], `candidates is missing: give ${accepted}.`, accepted);
}).meta({
  id: "ScoreRequest",
  oneOf: [
    { required: ["prompt", "candidates"] },
    { required: ["messages", "candidates"] },
    {
      required: ["items"],
      not: { anyOf: [{ required: ["prompt"] }, { required: ["messages"] }, { required: ["candidates"] }] },
    },
  ],
});

/** See {@link ScoreRequestSchema}. */
export type ScoreBody = z.infer<typeof ScoreRequestSchema>;

/** One candidate's score; log-probs are natural logarithms. */
const CandidateSchema = z.object({
  index: z.number().int().meta({ description: "Place in the request, from 0." }),
  rank: z.number().int().meta({ description: "1 is the best; ties keep the request's order." }),
  average_logprob: z.number(),
  sum_logprob: z.number(),
  num_tokens: z.number().int().meta({ description: "Scored tokens of the response." }),
  reward: z.number(),
  truncated: z.boolean(),
  tokens: z.array(z.string()).optional(),
  token_logprobs: z.array(z.number()).optional(),
}).meta({ id: "ScoredCandidate" });

/** See {@link CandidateSchema}. */
export type ScoredCandidate = z.infer<typeof CandidateSchema>;

/** Tokens that an item took; a prompt counts once for all its candidates. */
const UsageSchema = z.object({
  prompt_tokens: z.number().int(),
  cached_prompt_tokens: z.number().int().meta({
    description:
      "Of those, tokens that an earlier prompt had in the same place: they were not computed again.",
  }),
  candidate_tokens: z.number().int(),
  total_tokens: z.number().int(),
}).meta({ id: "Usage" });

/** See {@link UsageSchema}. */
export type Usage = z.infer<typeof UsageSchema>;

const scored = {
  results: z.array(CandidateSchema).meta({ description: "In the candidates' order." }),
  best: z.number().int().meta({ description: "Index of the candidate ranked first." }),
  margin: z.number().nullable().meta({
    description: "The best's average log-prob over the second's; null where there is one candidate.",
  }),
};

/** The answer about one prompt. */
const OneAnswerSchema = z.object({ model: z.string(), ...scored, usage: UsageSchema }).meta({
  id: "ScoreAnswer",
});

/** The answer about `items`, in their order. */
const ManyAnswerSchema = z.object({ model: z.string(), items: z.array(z.object(scored)), usage: UsageSchema })
  .meta({ id: "ScoreAnswers" });

/** The answer of `POST /score`. */
export const ScoreAnswerSchema = z.union([OneAnswerSchema, ManyAnswerSchema]);

/** See {@link ScoreAnswerSchema}. */
export type ScoreAnswer = z.infer<typeof ScoreAnswerSchema>;

/** A line of the answer as NDJSON. */
export const ScoreLineSchema = z.object({ index: z.number().int(), ...scored, usage: UsageSchema }).meta({
  id: "ScoreLine",
  description:
    "One line an item, as they are done. Where scoring fails on the way, the last line is a Problem.",
});

/** A prompt's candidates, compared. */
export type ScoredItem = Omit<z.infer<typeof ScoreLineSchema>, "index">;
