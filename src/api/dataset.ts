/** The data sets of a training job. */
import { z } from "zod";
import { knownColumns } from "../preference/rows.ts";
import { refuseField, strictObject } from "../validation.ts";
import { list, mapping, most, positive, text, wholeNumber } from "./limits.ts";

const sourceError =
  "an object with one of path (a file of rows, or a folder of them) and rows (a list of rows)";

const dataFilesError = "a name or pattern, a list of them, or {split: pattern}";
const nameField = text(most.nameCharacters, 1);
const patterns = z.union([nameField, list(nameField, { min: 1, max: most.files })], {
  error: dataFilesError,
});

/** Files of a folder: names or patterns, for `train` or for each split. */
export const DataFilesSchema = z.union([patterns, mapping(nameField, patterns, { max: 100 })], {
  error: dataFilesError,
});

/** How rows are read and how many of them are taken, wherever they come from. */
const reading = {
  columns: mapping(text(most.nameCharacters), nameField.nullable(), { max: 100 }).superRefine(
    (columns, context) => {
      const unknown = Object.keys(columns).find((name) => !knownColumns.includes(name));
      if (unknown === undefined) return;
      const known = knownColumns.toSorted().join(", ");
      refuseField(context, [unknown], `${unknown} is no column that rows are read from: ${known}.`, known);
    },
  ).optional().meta({
    description:
      "Which of the data set's columns is which, by the names of docs/data.md: the prompt, the chosen response, … " +
      'A path such as "data.question" leads into objects; null: there is no such column, whatever its name says.',
    example: { prompt: "question" },
  }),
  pairs: z.enum(["best_worst", "adjacent", "all"]).optional().describe(
    "Which pairs a row with several ranked answers makes: the best with the worst (as where nothing is said), each with " +
      "the next, or each with every worse one. Given, ranked answers go before a pair that the row names beside them.",
  ),
  weight: positive(1000).optional().describe(
    "How often a row comes in an epoch: 2 takes every row twice, 0.5 a half of them, chosen by the seed. 1 where it is left out.",
  ),
  limit: wholeNumber(1, 1e12).optional().describe("Only the data set's first rows, so many."),
};

/** What a row holds is looked at when it is read, a row at a time. */
const RowSchema = z.unknown().meta({ type: "object", maxProperties: most.keys });

const SourceSchema = z.union([
  strictObject({
    path: text(most.nameCharacters).meta({
      description:
        "File of rows (.jsonl, .json, .csv or .tsv, also with .gz or .zst; .parquet; .arrow), or a folder laid " +
        "out as the hub's data sets are (data/train-00000-of-00002.parquet, train.jsonl) or as save_to_disk writes it, " +
        "named relative to the root; or hf://datasets/org/name.",
      example: "data/train.jsonl",
    }),
    name: nameField.optional().meta({
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
    split: nameField.optional().meta({
      description:
        "Which of a folder's splits, a slice (train[:1000], train[10%:20%], train[-100:]; a file's too) or a sum " +
        "(train+validation); train where nothing is said.",
      example: "train",
    }),
    ...reading,
  }),
  strictObject({
    rows: list(RowSchema, { min: 1, max: most.rows, accepts: () => true }).describe(
      "The rows themselves: {prompt, chosen, rejected} as strings or message lists, {chosen, rejected} " +
        "as whole conversations, or OpenAI's preference rows; for method sft {prompt, completion}, {messages} or {text}; " +
        "and what else docs/data.md lists.",
    ),
    ...reading,
  }),
], { error: sourceError });

/** Rows by a name under the root or of the hub, or the rows themselves; or several of these, one after another. */
export const DatasetSchema = z.union([SourceSchema, list(SourceSchema, { min: 1, max: 100 })], {
  error: `${sourceError}, or a list of at most 100 such objects`,
});

/** One of a job's data sets. */
export type SourceRequest = z.infer<typeof SourceSchema>;

/** See {@link DatasetSchema}. */
export type DatasetRequest = z.infer<typeof DatasetSchema>;
