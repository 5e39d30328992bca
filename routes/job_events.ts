/** GET /train/{id}/events: a job's events as they come. */
import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import { isFinished } from "../src/jobs/job.ts";
import { eventStream } from "./_event_stream.ts";
import { params } from "./_job_answer.ts";
import { dropOf, patientStream } from "./_patient_stream.ts";
import { hostPathsOf, problems } from "./problem.ts";
import type { Service } from "./service_context.ts";

/** An event of the stream, as its fields are sent. */
const EventSchema = z.object({
  id: z.string().optional().describe("What Last-Event-ID takes to go on behind it."),
  event: z.string(),
  data: z.string().describe("A JSON object."),
}).openapi("JobEvent");

const events = createRoute({
  method: "get",
  path: "/train/{id}/events",
  summary: "A job's events as they come, from its first on; the stream ends with the job.",
  request: {
    params,
    headers: z.object({
      "last-event-id": z.string().regex(/^\d{1,15}$/, "the id of an event, a whole number").optional()
        .describe("Goes on after this event; 0: from the first."),
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

/** Adds the route to the app of the jobs. */
export function addEvents(app: OpenAPIHono, { store, stopping }: Service): void {
  app.openapi(events, (c) => {
    const { id, status } = store.find(c.req.valid("param").id);
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
}
