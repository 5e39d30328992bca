/** Training jobs over HTTP: start, list, look at, follow, cancel, fetch. */
import { createRoute, OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import { most, text } from "../src/api/limits.ts";
import { InspectionSchema } from "../src/api/inspection.ts";
import { JobListSchema, JobRequestSchema, ResumeRequestSchema } from "../src/api/job.ts";
import { InputError } from "../src/errors.ts";
import { checkFiles } from "../src/jobs/check_files.ts";
import { resolveInspection } from "../src/jobs/files.ts";
import { newJobId, sha256 } from "../src/jobs/folder.ts";
import { withInitAdapter } from "../src/jobs/init_adapter.ts";
import { settingsOf, toJobSpecInTurns } from "../src/jobs/spec.ts";
import { checkChatTemplate } from "../src/text/check_template.ts";
import { strictObject } from "../src/validation.ts";
import { answerOf, jobAnswer, params } from "./_job_answer.ts";
import { emptyIsNone } from "./_json_body.ts";
import { answerJson } from "./_json_in_turns.ts";
import { addArchive } from "./job_archive.ts";
import { addEvents } from "./job_events.ts";
import { problems, refusing } from "./problem.ts";
import { refuseWhenStopping, type Service } from "./service_context.ts";

const create = createRoute({
  method: "post",
  path: "/train",
  summary: "Queue a training job.",
  request: {
    query: strictObject({
      dry_run: z.enum(["true", "false"]).optional().describe(
        "true: no job is made; the answer is what its rows become, tokenised to the last as training does.",
      ),
    }),
    headers: z.object({
      "idempotency-key": z.string().min(1).max(255).optional().describe(
        "The same key with the same request gives the same job, however often it is sent.",
      ),
    }),
    body: { required: true, content: { "application/json": { schema: JobRequestSchema } } },
  },
  responses: {
    200: {
      description: "What the rows become, where dry_run is true.",
      content: { "application/json": { schema: InspectionSchema } },
    },
    202: { ...jobAnswer, headers: z.object({ location: z.string() }) },
    ...problems(404, 422, 429, 503, 507),
  },
});

const list = createRoute({
  method: "get",
  path: "/train",
  summary: "The jobs, newest first.",
  request: {
    query: strictObject({
      limit: z.coerce.number().int().min(1).max(100).default(20),
      before: text(most.nameCharacters).optional().describe(
        "What the page comes after: the id of a job, or what next has, which stays good where that job is deleted.",
      ),
    }),
  },
  responses: {
    200: { description: "A page of jobs.", content: { "application/json": { schema: JobListSchema } } },
    ...problems(422, 503),
  },
});

const show = createRoute({
  method: "get",
  path: "/train/{id}",
  summary: "A job as it stands.",
  request: { params },
  responses: { 200: jobAnswer, ...problems(404, 409, 422, 503) },
});

const cancel = createRoute({
  method: "post",
  path: "/train/{id}/cancel",
  summary:
    "End a job: at once where it waits, after the current micro-batch where it trains, or the current piece of its weights.",
  request: { params },
  responses: { 202: jobAnswer, ...problems(404, 409, 422, 503, 507) },
});

const resume = createRoute({
  method: "post",
  path: "/train/{id}/resume",
  summary:
    "Put a job that was cancelled or has failed back into the queue: it goes on from its newest checkpoint.",
  request: {
    params,
    body: { required: false, content: { "application/json": { schema: ResumeRequestSchema } } },
  },
  middleware: [emptyIsNone] as const,
  responses: { 202: jobAnswer, ...problems(404, 409, 422, 503, 507) },
});

const remove = createRoute({
  method: "delete",
  path: "/train/{id}",
  summary: "Delete a job that has ended, with its events and files.",
  request: { params },
  responses: {
    204: {
      description:
        "It has gone, and its idempotency key is free again. Who reads its files at the moment still gets them whole.",
    },
    ...problems(404, 409, 422, 503, 507),
  },
});

/** Everything under /train. */
export function trainRoutes(service: Service): OpenAPIHono {
  const { store, runner, config, hub } = service;
  const sources = { ...config, hub, store };
  const app = new OpenAPIHono({ defaultHook: refusing(JobRequestSchema) });

  app.openapi(create, async (c) => {
    refuseWhenStopping(service);
    const request = c.req.valid("json");
    await checkChatTemplate(request.chat_template);
    const spec = await toJobSpecInTurns(request);
    const completed = async () => {
      await checkFiles(sources, spec);
      return { ...spec, settings: settingsOf(await withInitAdapter(request, sources)) };
    };
    if (c.req.valid("query").dry_run === "true") {
      const { signal } = c.req.raw;
      const asked = await resolveInspection(sources, await completed(), signal);
      return c.json(await (await service.engine).call("inspect", asked, { signal }), 200);
    }
    const key = c.req.valid("header")["idempotency-key"];
    const idempotency = key === undefined ? undefined : { key, hash: await sha256(JSON.stringify(request)) };
    // A repeated request gets its job even where the files have gone since.
    const isRepeated = key !== undefined && store.hasKey(key);
    const taken = isRepeated ? spec : await completed();
    if (!isRepeated) await runner.disk.check(store.bytes());
    const { job, created } = store.create(newJobId(), taken, idempotency);
    if (created) runner.wake();
    return c.json(answerOf(c, job), 202, { location: `/train/${job.id}` });
  });

  app.openapi(list, async (c) => {
    const { limit, before } = c.req.valid("query");
    const number = before === undefined
      ? undefined
      : /^\d{1,15}$/.test(before)
      ? Number(before)
      : store.numberOf(before);
    if (before !== undefined && number === undefined) {
      throw new InputError(`before names no job: ${JSON.stringify(before)}.`, {
        path: ["before"],
        value: before,
        accepted: "the id of a job",
      });
    }
    // One more than asked for tells whether there is a next page.
    const jobs = store.list(limit + 1, number);
    const page = jobs.slice(0, limit);
    const next = jobs.length > limit
      ? `/train?limit=${limit}&before=${store.numberOf(page.at(-1)!.id)}`
      : null;
    const set_aside = Array.from(store.setAside, ([id, why]) => ({ id, why })).slice(0, 100);
    const answer: z.infer<typeof JobListSchema> = {
      jobs: page.map((job) => answerOf(c, job)),
      next,
      ...(set_aside.length > 0 && { set_aside }),
    };
    return await answerJson(c, answer) as never;
  });

  app.openapi(show, (c) => c.json(answerOf(c, store.find(c.req.valid("param").id)), 200));

  addEvents(app, service);

  app.openapi(cancel, (c) => c.json(answerOf(c, runner.cancel(store.find(c.req.valid("param").id).id)), 202));

  app.openapi(resume, async (c) => {
    refuseWhenStopping(service);
    const fault = await runner.disk.fault();
    if (fault !== null) throw fault;
    const { accept_changes = false } = c.req.valid("json");
    return c.json(answerOf(c, runner.resume(store.find(c.req.valid("param").id).id, accept_changes)), 202);
  });

  app.openapi(remove, async (c) => {
    await runner.delete(c.req.valid("param").id);
    return c.body(null, 204);
  });

  addArchive(app, service);
  return app;
}
