/** Training jobs: what may be asked for, and what is answered. */
import { z } from "zod";
import { JOB_STATUSES } from "../jobs/job.ts";
import { isObject } from "../json.ts";
import { refuseField, strictObject } from "../validation.ts";
import { DataFilesSchema, DatasetSchema } from "./dataset.ts";
import { most, text } from "./limits.ts";
import { checkSettings, presetField, settingsFields, type TrainingSettings } from "./settings.ts";

/** The body of `POST /train`, and a job file's content. */
export const JobRequestSchema = strictObject({
  model: text(most.nameCharacters).meta({
    description:
      "Folder of the base model, relative to the root; or hf://org/name, with @revision where it is not main.",
    example: "models/llama",
  }),
  dataset: DatasetSchema,
  eval_dataset: DatasetSchema.nullable().optional(),
  preset: presetField,
  ...settingsFields,
}).superRefine(checkSettings).superRefine(({ eval_dataset, eval_fraction }, context) => {
  if (eval_dataset == null || eval_fraction === 0) return;
  const accepted = "one of eval_dataset and eval_fraction";
  refuseField(
    context,
    ["eval_fraction"],
    `Both eval_dataset and eval_fraction ${eval_fraction} are given: give one of them.`,
    accepted,
  );
}).superRefine(({ dataset, eval_dataset }, context) => {
  const sources = [dataset, eval_dataset ?? []].flat();
  const rows = sources.reduce((sum, source) => sum + ("rows" in source ? source.rows.length : 0), 0);
  if (rows <= most.rows) return;
  const accepted = `at most ${most.rows} rows in all; files may hold any number`;
  refuseField(
    context,
    ["dataset"],
    `dataset and eval_dataset bring ${rows} rows: give ${accepted}.`,
    accepted,
  );
}).meta({ id: "JobRequest" });

/** The body of `POST /train/{id}/resume`, which may be left out. */
export const ResumeRequestSchema = strictObject({
  accept_changes: z.boolean().optional().describe(
    "true: the job goes on though its data set, the model, its tokenizer or template have changed since its checkpoint, " +
      "over what is there now. Left out or false: that is refused, and the job fails with what has changed.",
  ),
}).meta({ id: "ResumeRequest" });

/** A request as its sender wrote it. */
export type JobRequest = z.infer<typeof JobRequestSchema>;

const SourceSummarySchema = z.union([
  z.looseObject({
    path: z.string(),
    name: z.string().optional(),
    data_files: DataFilesSchema.optional(),
    split: z.string().optional(),
  }),
  z.object({ rows: z.number().int().describe("How many rows came with the request.") }),
]);

/** A data set as a job shows it: by its name, or how many rows came with the request; or several such. */
const DatasetSummarySchema = z.union([SourceSummarySchema, z.array(SourceSummarySchema)]);
const RowsReadSchema = z.object({
  rows: z.number().int(),
  shapes: z.array(z.object({ shape: z.string(), rows: z.number().int() })).describe(
    "The columns that were used and how, with how many rows have them; docs/data.md lists all shapes.",
  ),
});

const splits = z.enum(["train", "eval"]);

/** A training job as it stands. */
export const JobSchema = z.object({
  id: z.string().meta({ example: "job-0123456789abcdef0123" }),
  status: z.enum(JOB_STATUSES),
  model: z.string(),
  dataset: DatasetSummarySchema,
  eval_dataset: DatasetSummarySchema.nullable(),
  preset: z.string().nullable(),
  settings: z.custom<TrainingSettings>(isObject).meta({
    type: "object",
    additionalProperties: {},
    description:
      "Everything the run depends on, defaults filled in; long texts and lists are cut here, with their length.",
  }),
  loading: z.object({ bytes: z.number().int(), total_bytes: z.number().int() }).nullable().describe(
    "While the model's weights are read: how far.",
  ),
  downloading: z.object({ file: z.string(), bytes: z.number().int(), total_bytes: z.number().int() })
    .nullable()
    .describe("While files are brought from the hub: how far the present one is."),
  plan: z.object({
    bytes: z.record(z.string(), z.number().int()).describe(
      "weights (frozen), parameters (trained), gradients, moments (AdamW's), activations, head, scratch, other.",
    ),
    total_bytes: z.number().int(),
    available_bytes: z.number().int().nullable().describe(
      "What the device has for the job; null where it does not tell and SIMPO_MEMORY is not set.",
    ),
    micro_batch_tokens: z.number().int().describe("As given or chosen."),
    activation_recomputation: z.boolean().describe("As given or chosen."),
  }).nullable().describe("What the job needs of the device's memory; null until its rows are tokenised."),
  progress: z.object({
    step: z.number().int(),
    total_steps: z.number().int().nullable().describe("null until the rows are tokenised."),
    fraction: z.number().describe("From 0 to 1."),
    tokens_per_second: z.number().nullable(),
  }),
  seconds_remaining: z.number().nullable(),
  metrics: z.record(z.string(), z.number()).nullable().describe(
    "The newest value of each metric by TRL's names, with the step of the newest.",
  ),
  rows_read: z.object({ train: RowsReadSchema.nullable(), eval: RowsReadSchema.nullable() }).describe(
    "What the rows were read as; null until they are read, or where there are none.",
  ),
  rows_left_out: z.object({
    count: z.number().int(),
    reasons: z.array(z.object({ split: splits, reason: z.string(), count: z.number().int() })).describe(
      'The most frequent reasons first; "other reasons" are those that have no line of their own.',
    ),
    first: z.array(z.object({ split: splits, row: z.number().int(), reason: z.string() })).describe(
      "At most 20, by their numbers from 1.",
    ),
  }).describe("Rows that were not used."),
  warnings: z.array(z.string()).describe("What the job was warned of, the first 50."),
  warning_count: z.number().int(),
  bytes: z.number().int().nullable().describe(
    "Size of the job's folder as of its newest checkpoint, or its end; null before. DELETE frees them.",
  ),
  cancel_requested: z.boolean(),
  waiting_for: z.string().nullable().describe(
    "Of a job that is waiting_for_space: what could not be written. It goes on by itself when there is room.",
  ),
  error: z.object({
    message: z.string(),
    field: z.string().optional(),
    value: z.unknown().optional(),
    accepted: z.string().optional(),
  }).nullable(),
  created_at: z.string(),
  started_at: z.string().nullable(),
  finished_at: z.string().nullable(),
  links: z.object({
    self: z.string(),
    events: z.string(),
    cancel: z.string(),
    resume: z.string(),
    adapter: z.string(),
  }),
}).meta({ id: "Job" });

/** See {@link JobSchema}; where it is found is the route's to say. */
export type Job = Omit<z.infer<typeof JobSchema>, "links">;

/** Why a job failed; the fields beside the message are there where the job's own input is at fault. */
export type JobError = NonNullable<Job["error"]>;

/** See {@link DatasetSummarySchema}. */
export type DatasetSummary = Job["dataset"];

/** A page of jobs. */
export const JobListSchema = z.object({
  jobs: z.array(JobSchema),
  next: z.string().nullable().describe("The next page; null on the last."),
  set_aside: z.array(z.object({ id: z.string(), why: z.string() })).optional().describe(
    "Jobs that cannot be read from the data base, as far as they were met; left out where there are none.",
  ),
}).meta({ id: "JobList" });
