/** Training jobs over HTTP: start, list, look at, follow, cancel, fetch. */
import { createRoute, OpenAPIHono } from "@hono/zod-openapi";
import type { Context, Next } from "hono";
import { HTTPException } from "hono/http-exception";
import { z } from "zod";
import { most, text } from "../src/api/limits.ts";
import { InspectionSchema } from "../src/api/inspection.ts";
import { type Job, JobListSchema, JobRequestSchema, JobSchema, ResumeRequestSchema } from "../src/api/job.ts";
import { boundedJson, boundedText } from "../src/bounded.ts";
import { InputError } from "../src/errors.ts";
import { checkFiles } from "../src/jobs/check_files.ts";
import { resolveInspection } from "../src/jobs/files.ts";
import { newJobId, sha256 } from "../src/jobs/folder.ts";
import { withInitAdapter } from "../src/jobs/init_adapter.ts";
import { unknownJob } from "../src/jobs/runner.ts";
import { settingsOf, toJobSpecInTurns } from "../src/jobs/spec.ts";
import { isFinished } from "../src/jobs/job.ts";
import { checkChatTemplate } from "../src/text/check_template.ts";
import { strictObject } from "../src/validation.ts";
import { archiveOf } from "./_archive.ts";
import { answerArchive } from "./_download.ts";
import { eventStream } from "./_event_stream.ts";
import { answerJson } from "./_json_in_turns.ts";
import { dropOf, patientStream } from "./_patient_stream.ts";
import { hostPathsOf, problems, refusing } from "./problem.ts";
import { refuseWhenStopping, type Service } from "./service_context.ts";

const jobAnswer = { description: "The job.", content: { "application/json": { schema: JobSchema } } };
const params = z.object({ id: text(most.nameCharacters).meta({ param: { name: "id", in: "path" } }) });

const create = createRoute({
  method: "post",
  path: "/train",
  summary: "Queue a training job.",
  request: {
    query: strictObject({
      dry_run: z.enum(["true", "false"]).optional().meta({
        description:
          "true: no job is made; the answer is what its rows become, tokenised to the last as training does.",
      }),
    }),
    headers: z.object({
      "idempotency-key": z.string().min(1).max(255).optional().meta({
        description: "The same key with the same request gives the same job, however often it is sent.",
      }),
    }),
    body: {
      required: true,
      content: { "application/json": { schema: JobRequestSchema } },
    },
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
      before: text(most.nameCharacters).optional().meta({
        description:
          "What the page comes after: the id of a job, or what next has, which stays good where that job is deleted.",
      }),
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

/** An event of the stream, as its fields are sent. */
const EventSchema = z.object({
  id: z.string().optional().meta({ description: "What Last-Event-ID takes to go on behind it." }),
  event: z.string(),
  data: z.string().meta({ description: "A JSON object." }),
}).openapi("JobEvent");

const events = createRoute({
  method: "get",
  path: "/train/{id}/events",
  summary: "A job's events as they come, from its first on; the stream ends with the job.",
  request: {
    params,
    headers: z.object({
      "last-event-id": z.string().regex(/^\d{1,15}$/, "the id of an event, a whole number").optional().meta({
        description: "Goes on after this event; 0: from the first.",
      }),
    }),
  },
  responses: {
    200: {
      description:
        "Events status, metrics (one flat object: step and the metrics by name), checkpoint, warning, done; and, a few " +
        "times a second and without an id, downloading (file, bytes, total_bytes) while files are brought from the hub and " +
        "loading (bytes, total_bytes) while weights are read.",
      content: { "text/event-stream": { schema: EventSchema } },
    },
    204: { description: "The job has ended and has no further event." },
    ...problems(404, 409, 422, 503),
  },
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

const header = text(most.nameCharacters);
const archiveContent = { "application/x-tar": { schema: z.string().meta({ format: "binary" }) } };
const archiveHeaders = z.object({
  "content-length": z.string(),
  etag: z.string().meta({ description: "Names these bytes; for If-Range." }),
  "accept-ranges": z.literal("bytes"),
});

const adapter = createRoute({
  method: "get",
  path: "/train/{id}/adapter",
  summary: "A job's result, or one of its checkpoints, as a tar archive.",
  description:
    "The same bytes every time: a download that broke off goes on with Range, and with the ETag in If-Range. " +
    "HEAD tells the size. Merged weights are written at the first request for them.",
  request: {
    params,
    headers: z.object({
      range: header.optional().meta({
        description: "One range of bytes; several are answered with the whole archive.",
        example: "bytes=1048576-",
      }),
      "if-range": header.optional().meta({
        description: "An earlier answer's ETag: where the archive is another one, it comes as a whole.",
      }),
      "if-match": header.optional(),
      "if-none-match": header.optional(),
    }),
    query: strictObject({
      format: z.enum(["adapter", "merged", "full"]).optional().meta({
        description:
          "adapter: the PEFT files. merged or full: the whole model's weights, an adapter merged into them. " +
          "Left out: what the job trained.",
      }),
      step: z.union([z.literal("latest"), z.string().regex(/^\d{1,15}$/).transform(Number)], {
        error: '"latest" or the step of a checkpoint',
      }).optional().meta({
        type: ["string", "integer"],
        maxLength: 15,
        minimum: 0,
        maximum: 10 ** 15 - 1,
        description:
          "latest: the newest checkpoint, of a job that runs, was cancelled or has failed too. A number: the " +
          "checkpoint of that step, where it is still kept. Left out: the result of a job that has succeeded.",
        example: "latest",
      }),
    }),
  },
  responses: {
    200: { description: "The archive.", headers: archiveHeaders, content: archiveContent },
    206: {
      description: "A part of it.",
      headers: archiveHeaders.extend({ "content-range": z.string() }),
      content: archiveContent,
    },
    304: { description: "It is what If-None-Match names." },
    ...problems(404, 409, 412, 416, 422, 503, 507),
  },
});

/** An empty body is none, whatever content type it is announced with; another must be JSON. */
async function emptyIsNone(c: Context, next: Next): Promise<void> {
  const isJson = /^application\/([^;]+\+)?json\s*(;|$)/i.test(c.req.header("content-type") ?? "");
  if ((await c.req.arrayBuffer()).byteLength > 0) {
    if (!isJson) throw new HTTPException(415);
  } else if (isJson) {
    const { url, method, headers, signal } = c.req.raw;
    const others = [...headers].filter(([name]) => name !== "content-type");
    c.req.raw = new Request(url, { method, headers: others, signal });
  }
  await next();
}

/** Everything under /train. */
export function trainRoutes(service: Service): OpenAPIHono {
  const { store, runner, config, stopping } = service;
  const sources = { ...config, hub: service.hub };
  const find = (id: string): Job => {
    const job = store.get(id);
    if (job === undefined) throw unknownJob(id);
    return job;
  };
  const app = new OpenAPIHono({ defaultHook: refusing(JobRequestSchema) });

  app.openapi(create, async (c) => {
    refuseWhenStopping(service);
    const request = c.req.valid("json");
    await checkChatTemplate(request.chat_template);
    const spec = await toJobSpecInTurns(request);
    let { settings } = spec;
    const key = c.req.valid("header")["idempotency-key"];
    const idempotency = key === undefined ? undefined : { key, hash: await sha256(JSON.stringify(request)) };
    if (c.req.valid("query").dry_run === "true") {
      await checkFiles(sources, spec);
      const { signal } = c.req.raw;
      const inspected = {
        ...spec,
        settings: settingsOf(await withInitAdapter(request, { ...sources, store })),
      };
      const asked = await resolveInspection(sources, inspected, signal);
      return c.json(await (await service.engine).call("inspect", asked, { signal }), 200);
    }
    // A repeated request gets its job even where the files have gone since.
    if (key === undefined || !store.hasKey(key)) {
      await checkFiles(sources, spec);
      settings = settingsOf(await withInitAdapter(request, { ...sources, store }));
      await runner.disk.check(store.bytes());
    }
    const { job, created } = store.create(newJobId(), { ...spec, settings }, idempotency);
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

  app.openapi(show, (c) => c.json(answerOf(c, find(c.req.valid("param").id)), 200));

  app.openapi(events, (c) => {
    const { id, status } = find(c.req.valid("param").id);
    const after = Number(c.req.valid("header")["last-event-id"] ?? 0);
    if (isFinished(status) && store.events(id, after, 1).length === 0) return c.body(null, 204);
    const headers = {
      "content-type": "text/event-stream",
      "cache-control": "no-store, no-transform",
      // A proxy that gathers a whole answer would keep the events back.
      "x-accel-buffering": "no",
    };
    // Nobody reads the body of an answer to HEAD, or cancels it: its subscription would stay.
    if (c.req.method === "HEAD") return c.body(null, 200, headers) as never;
    const stream = eventStream(store, id, after, stopping, hostPathsOf(c));
    return c.body(patientStream(stream, dropOf(c)), 200, headers) as never;
  });

  app.openapi(cancel, (c) => c.json(answerOf(c, runner.cancel(find(c.req.valid("param").id).id)), 202));

  app.openapi(resume, async (c) => {
    refuseWhenStopping(service);
    const fault = await runner.disk.fault();
    if (fault !== null) throw fault;
    const { accept_changes = false } = c.req.valid("json");
    return c.json(answerOf(c, runner.resume(find(c.req.valid("param").id).id, accept_changes)), 202);
  });

  app.openapi(remove, async (c) => {
    await runner.delete(c.req.valid("param").id);
    return c.body(null, 204);
  });

  const archive = archiveOf(service);
  app.openapi(adapter, async (c) => {
    const job = find(c.req.valid("param").id);
    const { format, step } = c.req.valid("query");
    const made = await archive(job, { format, step }, c.req.raw.signal);
    return answerArchive(c, made, `${job.id}.tar`) as never;
  });
  return app;
}

function answerOf(c: Context, job: Job): z.infer<typeof JobSchema> {
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
