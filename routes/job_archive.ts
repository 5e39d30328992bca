/** GET /train/{id}/adapter: what a job has learned. */
import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import { most, text } from "../src/api/limits.ts";
import { strictObject } from "../src/validation.ts";
import { archiveOf } from "./_archive.ts";
import { answerArchive } from "./_download.ts";
import { params } from "./_job_answer.ts";
import { problems } from "./problem.ts";
import type { Service } from "./service_context.ts";

const header = text(most.nameCharacters);
const archiveContent = { "application/x-tar": { schema: z.string().meta({ format: "binary" }) } };
const archiveHeaders = z.object({
  "content-length": z.string(),
  etag: z.string().describe("Names these bytes; for If-Range."),
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
      "if-range": header.optional().describe(
        "An earlier answer's ETag: where the archive is another one, it comes as a whole.",
      ),
      "if-match": header.optional(),
      "if-none-match": header.optional(),
    }),
    query: strictObject({
      format: z.enum(["adapter", "merged", "full"]).optional().describe(
        "adapter: the PEFT files. merged or full: the whole model's weights, an adapter merged into them. " +
          "Left out: what the job trained.",
      ),
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

/** Adds the route to the app of the jobs. */
export function addArchive(app: OpenAPIHono, service: Service): void {
  const archive = archiveOf(service);
  app.openapi(adapter, async (c) => {
    const job = service.store.find(c.req.valid("param").id);
    const { format, step } = c.req.valid("query");
    const made = await archive(job, { format, step }, c.req.raw.signal);
    return answerArchive(c, made, `${job.id}.tar`) as never;
  });
}
