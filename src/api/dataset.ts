/** The data sets of a training job. */
import { z } from "zod";
import { strictObject } from "../validation.ts";

const datasetError =
  "an object with one of path (a JSONL or Parquet file, or a folder of them) and rows (a list of rows)";

/** Rows by a name under the root or of the hub, or the rows themselves. */
export const DatasetSchema = z.union([
  strictObject({
    path: z.string().meta({
      description: "JSONL or Parquet file, or a folder laid out as the hub's data sets are " +
        "(data/train-00000-of-00002.parquet, train.jsonl), named relative to the root; or hf://datasets/org/name.",
      example: "data/train.jsonl",
    }),
    split: z.string().min(1).optional().meta({
      description: "Which of a folder's splits; train where nothing is said.",
      example: "train",
    }),
  }),
  strictObject({
    rows: z.array(z.unknown().meta({ type: "object" })).min(1).meta({
      description:
        "The rows themselves: {prompt, chosen, rejected} as strings or message lists, {chosen, rejected} " +
        "as whole conversations, or OpenAI's preference rows; for method sft {prompt, completion}, {messages} or {text}.",
    }),
  }),
], { error: datasetError });

/** See {@link DatasetSchema}. */
export type DatasetRequest = z.infer<typeof DatasetSchema>;
