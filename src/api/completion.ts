/** `POST /v1/completions` and `GET /v1/models`: the part of OpenAI's interface that evaluation tools score texts by. */
import { z } from "zod";
import { refuseField, strictObject } from "../validation.ts";
import { quantizationField } from "./fields.ts";
import { list, most, text, tokenIds, wholeNumber } from "./limits.ts";

const TextSchema = text(most.textCharacters, 1);
const IdsSchema = tokenIds(1);

const PROMPT = "a text, a list of texts, token ids or a list of lists of token ids, none of them empty";

/** Of what OpenAI's interface has, the value that says nothing is asked for. */
const unused = {
  n: z.literal(1).nullish(),
  best_of: z.literal(1).nullish(),
  stream: z.literal(false).nullish(),
  top_p: z.literal(1).nullish(),
  presence_penalty: z.literal(0).nullish(),
  frequency_penalty: z.literal(0).nullish(),
  suffix: z.null().optional(),
  stop: z.null().optional(),
  logit_bias: z.null().optional(),
  seed: wholeNumber(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER).nullish().describe(
    "Ignored: nothing is sampled.",
  ),
  user: text(most.nameCharacters).nullish().describe("Ignored."),
};

/** The body of `POST /v1/completions`. */
export const CompletionRequestSchema = strictObject({
  model: text(most.nameCharacters).meta({
    description:
      "Folder of the model, relative to the root; hf://org/name; or the id of a training job: its base " +
      "with its result, or while it runs its newest checkpoint.",
    example: "models/llama",
  }),
  quantization: quantizationField,
  prompt: z.union([
    TextSchema,
    IdsSchema,
    list(TextSchema, { min: 1, max: most.items }),
    list(IdsSchema, { min: 1, max: most.items }),
  ], { error: PROMPT }).meta({ description: `${PROMPT}.`, example: "2 + 2 =" }),
  max_tokens: z.union([z.literal(0), z.literal(1)], { error: "0 | 1" }).describe(
    "1: the likeliest next token is appended. 0: the prompt alone, which needs echo.",
  ),
  echo: z.boolean().nullish().describe("Whether the answer starts with the prompt."),
  logprobs: wholeNumber(0, 1).nullish().describe(
    "1: beside each token's log-prob that of the likeliest token in its place.",
  ),
  temperature: z.number().min(0).max(100).nullish().describe(
    "The next token is not sampled: with max_tokens 1 only 0 is accepted.",
  ),
  add_special_tokens: z.boolean().default(true).describe(
    "Whether BOS is put before a text that does not start with it, where the model's tokenizer " +
      "does so. Token ids are taken as they are.",
  ),
  ...unused,
}).superRefine((body, context) => {
  if (body.max_tokens === 0 && !body.echo) {
    refuseField(
      context,
      ["echo"],
      "max_tokens is 0 and echo is not true: nothing would be answered.",
      "true",
    );
  }
  if (body.max_tokens === 1 && body.temperature) {
    refuseField(
      context,
      ["temperature"],
      "temperature must be 0: the next token is the likeliest, none is sampled.",
      "0",
    );
  }
}).meta({ id: "CompletionRequest" });

/** See {@link CompletionRequestSchema}. */
export type CompletionBody = z.infer<typeof CompletionRequestSchema>;

const LogprobsSchema = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()).describe("null for a prompt's first token."),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).describe(
    "The token itself and, with logprobs 1, the likeliest in its place. Where two tokens have " +
      "the same text the likeliest is spelt token_id:ID.",
  ),
  text_offset: z.array(z.int()).describe("Where each token starts in the tokens joined, in characters."),
});

/** The answer of `POST /v1/completions`. */
export const CompletionSchema = z.object({
  id: z.string(),
  object: z.literal("text_completion"),
  created: z.int(),
  model: z.string(),
  choices: z.array(z.object({
    index: z.int(),
    text: z.string(),
    logprobs: LogprobsSchema.nullable(),
    finish_reason: z.literal("length"),
  })).describe("One a prompt, in their order."),
  usage: z.object({
    prompt_tokens: z.int(),
    prompt_tokens_details: z.object({
      cached_tokens: z.int().describe(
        "Tokens that an earlier prompt had in the same place: they were not computed again. " +
          "None where the prompt's log-probs are asked for.",
      ),
    }),
    completion_tokens: z.int(),
    total_tokens: z.int(),
  }),
}).meta({ id: "Completion" });

/** The answer of `GET /v1/models`. */
export const ModelsSchema = z.object({
  object: z.literal("list"),
  data: z.array(z.object({
    id: z.string().describe("What other requests name as model."),
    object: z.literal("model"),
    created: z.int().describe("Unix time in seconds."),
    owned_by: z.literal("simpo-worker"),
    parent: z.string().nullable().describe("What a training job started from."),
  })),
}).meta({ id: "ModelList" });

/** An entry of {@link ModelsSchema}. */
export type Model = z.infer<typeof ModelsSchema>["data"][number];
