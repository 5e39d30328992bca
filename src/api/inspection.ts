/** What a job's rows become, before it is trained: `POST /train?dry_run=true`. */
import { z } from "zod";

const LengthsSchema = z.object({
  p50: z.number().int(),
  p90: z.number().int(),
  p99: z.number().int(),
  max: z.number().int(),
}).describe("Percentiles of lengths in tokens, before anything is cut.");

/** A row as the model sees it. */
const ExampleSchema = z.object({
  row: z.number().int(),
  prompt: z.string().describe(
    "What all responses share, as templated text with its special tokens; nothing of it is scored.",
  ),
  prompt_truncated: z.number().int().describe("Tokens that were cut from the prompt."),
  responses: z.array(z.object({
    unscored: z.string().describe("A response's own spelling of the prompt's end; mostly empty."),
    scored: z.string().describe("The tokens that count for the average log-prob, EOS among them."),
    scored_tokens: z.number().int(),
    truncated: z.boolean(),
  })).describe("The chosen and the rejected response; for method sft the completion."),
});

/** What was made of the rows of a split. */
const SplitInspectionSchema = z.object({
  rows: z.number().int().describe("Rows read."),
  shapes: z.array(z.object({ shape: z.string(), rows: z.number().int() })),
  examples: z.number().int().describe("Pairs or completions that were made of them."),
  left_out: z.object({
    count: z.number().int(),
    faults: z.number().int(),
    reasons: z.array(z.object({ reason: z.string(), count: z.number().int() })),
    first: z.array(z.object({ row: z.number().int(), reason: z.string() })),
  }),
  prompts_cut: z.number().int(),
  responses_cut: z.number().int(),
  prompt_length: LengthsSchema,
  whole_length: LengthsSchema,
  warnings: z.array(z.string()),
  first: z.array(ExampleSchema),
});

/** See the file. */
export const InspectionSchema = z.object({
  max_length: z.number().int().describe("As given or by default, and not above the model's context."),
  max_prompt_length: z.number().int(),
  epoch_examples: z.number().int().describe(
    "Examples of an epoch: as often as their data set's weight says, without those held out.",
  ),
  eval_examples: z.number().int().describe(
    "Examples of the evaluation: of eval_dataset, or those that eval_fraction holds out.",
  ),
  train: SplitInspectionSchema,
  eval: SplitInspectionSchema.nullable(),
  warnings: z.array(z.string()).describe("What concerns both, such as rows in train and eval."),
}).meta({ id: "Inspection" });

/** See {@link InspectionSchema}. */
export type Inspection = z.infer<typeof InspectionSchema>;

/** See {@link SplitInspectionSchema}. */
export type SplitInspection = z.infer<typeof SplitInspectionSchema>;
