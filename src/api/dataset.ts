/** The data sets of a training job. */
import { z } from "zod";
import { strictObject } from "../validation.ts";

const datasetError =
  "an object with one of path (a file of rows, or a folder of them) and rows (a list of rows)";

const dataFilesError = "a name or pattern, a list of them, or {split: pattern}";
const patterns = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)], { error: dataFilesError });

/** Files of a folder: names or patterns, for `train` or for each split. */
export const DataFilesSchema = z.union([patterns, z.record(z.string().min(1), patterns)], {
  error: dataFilesError,
});

/** Rows by a name under the root or of the hub, or the rows themselves. */
export const DatasetSchema = z.union([
  strictObject({
    path: z.string().meta({
      description:
        "File of rows (.jsonl, .json, .csv or .tsv, also with .gz or .zst; .parquet; .arrow), or a folder laid " +
        "out as the hub's data sets are (data/train-00000-of-00002.parquet, train.jsonl) or as save_to_disk writes it, " +
        "named relative to the root; or hf://datasets/org/name.",
      example: "data/train.jsonl",
    }),
    name: z.string().min(1).optional().meta({
      description:
        "Which of a folder's configurations, as its README.md declares them, or a folder in it; the default or " +
        "only one where nothing is said.",
      example: "default",
    }),
    data_files: DataFilesSchema.optional().meta({
      description:
        "Which of a folder's files, as names or patterns (data/train-*.parquet), for train or for each split.",
      example: "data/train-*.parquet",
    }),
    split: z.string().min(1).optional().meta({
      description:
        "Which of a folder's splits, a slice (train[:1000], train[10%:20%], train[-100:]; a file's too) or a sum " +
        "(train+validation); train where nothing is said.",
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
