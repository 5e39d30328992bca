/** A job as routes answer it. */
import type { Context } from "hono";
import { z } from "zod";
import { type Job, JobSchema } from "../src/api/job.ts";
import { most, text } from "../src/api/limits.ts";
import { boundedJson, boundedText } from "../src/bounded.ts";
import { hostPathsOf } from "./problem.ts";

/** For a route's description. */
export const jobAnswer = { description: "The job.", content: { "application/json": { schema: JobSchema } } };
/** The path's parameter of the routes of one job. */
export const params = z.object({ id: text(most.nameCharacters).meta({ param: { name: "id", in: "path" } }) });

export function answerOf(c: Context, job: Job): z.infer<typeof JobSchema> {
  return JSON.parse(hostPathsOf(c)(JSON.stringify(toAnswer(job))));
}

/** A job as it is answered: what its request or its data can make long is cut, so that it is never more than 20 kB. */
function toAnswer(job: Job): z.infer<typeof JobSchema> {
  const self = `/train/${job.id}`;
  const links = {
    self,
    events: `${self}/events`,
    cancel: `${self}/cancel`,
    resume: `${self}/resume`,
    adapter: `${self}/adapter`,
  };
  return {
    ...job,
    model: boundedText(job.model, 250),
    dataset: boundedJson(job.dataset, 1000),
    eval_dataset: boundedJson(job.eval_dataset, 1000),
    settings: boundedJson(job.settings, 4500),
    metrics: boundedJson(job.metrics, 1000),
    rows_left_out: boundedJson(job.rows_left_out, 4000),
    warnings: boundedJson(job.warnings, 4000),
    error: boundedJson(job.error, 2000),
    links,
  };
}
