/** Probes, and the description of the whole interface. */
import { createRoute, OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import { problems, problemsOf } from "./problem.ts";
import { refuseWhenStopping, type Service } from "./service_context.ts";
import type { Engine } from "../src/engine/protocol.ts";
import { InputError } from "../src/errors.ts";
import { VERSION } from "../src/version.ts";

const StateSchema = z.object({ status: z.literal("ok") });
const state = { description: "Yes.", content: { "application/json": { schema: StateSchema } } };

const livez = createRoute({
  method: "get",
  path: "/livez",
  summary: "Is the process alive?",
  security: [],
  responses: { 200: state },
});

const readyz = createRoute({
  method: "get",
  path: "/readyz",
  summary: "Does a device answer and does the state folder take writes, so that work can be sent?",
  security: [],
  responses: { 200: state, ...problemsOf(503) },
});

const ping = createRoute({
  method: "get",
  path: "/ping",
  summary: "The probe of load balancers that tell a start-up (204) from a failure.",
  security: [],
  responses: { 200: state, 204: { description: "Still starting, starting again, or stopping." } },
});

const openapi = createRoute({
  method: "get",
  path: "/openapi.json",
  summary: "This description.",
  security: [],
  responses: {
    200: {
      description: "OpenAPI 3.1.",
      content: { "application/json": { schema: z.record(z.string(), z.unknown()) } },
    },
    ...problems(),
  },
});

/** GET /livez, /readyz and /ping. */
export function probeRoutes(service: Service): OpenAPIHono {
  let engine: Engine | null = null;
  service.engine.then((started) => engine = started, () => {});
  return new OpenAPIHono()
    .openapi(livez, (c) => c.json({ status: "ok" } as const, 200))
    .openapi(readyz, async (c) => {
      refuseWhenStopping(service);
      const why = engine === null ? "The worker is starting: no device has answered yet." : engine.trouble;
      if (why) throw new InputError(why, { path: ["worker"], status: 503 });
      const fault = await service.runner.disk.fault();
      if (fault !== null) throw fault;
      return c.json({ status: "ok" } as const, 200);
    })
    .openapi(
      ping,
      (c) =>
        engine !== null && !engine.trouble && !service.stopping.aborted
          ? c.json({ status: "ok" } as const, 200)
          : c.body(null, 204),
    ) as OpenAPIHono;
}

/**
 * GET /openapi.json: describes every route of `app`, itself included.
 *
 * @param more the routes that are loaded later
 */
export function addDescription(app: OpenAPIHono, more: () => Promise<OpenAPIHono>, token: boolean): void {
  // Made once, for the first who asks: it takes some 30 ms, and no token.
  let description: Record<string, unknown> | null = null;
  app.openapi(openapi, async (c) => {
    description ??= describe([app, await more()], {
      openapi: "3.1.0",
      info: {
        title: "simpo-worker",
        version: VERSION,
        description: "Trains language models with SimPO and scores candidate responses.",
      },
      security: token ? [{ bearer: [] }] : [],
    });
    return c.json(description, 200);
  });
  if (token) {
    app.openAPIRegistry.registerComponent("securitySchemes", "bearer", { type: "http", scheme: "bearer" });
  }
}

function describe(
  apps: readonly OpenAPIHono[],
  config: Parameters<OpenAPIHono["getOpenAPI31Document"]>[0],
): Record<string, unknown> {
  const whole = new OpenAPIHono();
  for (const app of apps) whole.route("/", app);
  return whole.getOpenAPI31Document(config) as unknown as Record<string, unknown>;
}
