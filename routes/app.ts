/** The HTTP interface, put together: what holds for every request, then a sub-app per resource. */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { InputError } from "../src/errors.ts";
import { hostPathsHidden } from "../src/host_paths.ts";
import { logger } from "../src/log.ts";
import { admission } from "./_admission.ts";
import { bearerToken, onlyOurPages, PROBES } from "./_access.ts";
import { boundedBody } from "./_body.ts";
import { completionRoutes } from "./completions.ts";
import { jsonBody } from "./_json_body.ts";
import { answerProblem, refusing } from "./problem.ts";
import { scoreRoutes } from "./score.ts";
import { addDescription, probeRoutes } from "./service.ts";
import type { Service } from "./service_context.ts";
import { handedOn, later } from "./_later.ts";

const log = logger("http");

/** The status that proxies log for a client that went before its answer. */
const CLIENT_GONE = 499;

/** What an answer says beside its body. */
const HEADERS: Readonly<Record<number, Record<string, string>>> = {
  401: { "www-authenticate": "Bearer" },
  408: { connection: "close" },
};

/**
 * Makes the app; `app.fetch` is a handler for `Deno.serve`, `app.request` calls it without a socket.
 *
 * @param service What the routes work with
 */
export function createApp(service: Service): OpenAPIHono {
  const { config } = service;
  const app = newApp();
  app.use(requestId());
  const hideHostPaths = hostPathsHidden(config);
  app.use((c, next) => {
    c.set("hideHostPaths" as never, hideHostPaths as never);
    return next();
  });
  app.use(accessLog());
  app.use(onlyOurPages(config));
  app.use(onlyKnownMethods(app));
  const train = later(async () => {
    const { trainRoutes } = await import("./train.ts");
    const routes = newApp();
    routes.use(handedOn(), onlyKnownMethods(routes));
    return routes.route("/", trainRoutes(service)) as OpenAPIHono;
  });
  app.route("/", probeRoutes(service));
  addDescription(app, train.app, config.tokens.length > 0);
  if (config.tokens.length > 0) app.use(bearerToken(config.tokens));
  app.on("POST", ["/score", "/v1/completions", "/train"], admission(config));
  app.use(boundedBody(config.maxBodyBytes));
  app.use(jsonBody());
  app.route("/", scoreRoutes(service));
  app.route("/", completionRoutes(service));
  app.all("/train/*", train.handle); // and /train
  return app;
}

/** An app whose errors are problems. */
function newApp(): OpenAPIHono {
  const app = new OpenAPIHono({ defaultHook: refusing() });
  app.onError((error, c) => {
    const { signal } = c.req.raw;
    // Only the log sees it.
    if (signal.aborted && error === signal.reason) return c.body(null, CLIENT_GONE as 500);
    const status = error instanceof InputError ? error.status : null;
    return answerProblem(c, error, status === null ? {} : HEADERS[status]);
  });
  app.notFound((c) => {
    const route = `${c.req.method} ${c.req.path}`;
    const accepted = "a route that GET /openapi.json lists";
    return answerProblem(
      c,
      new InputError(`There is no ${route}.`, { path: ["path"], value: route, accepted, status: 404 }),
    );
  });
  return app;
}

/** Refuses the methods that a path of `app` does not take. */
function onlyKnownMethods(app: OpenAPIHono): MiddlewareHandler {
  return methodNotAllowed({
    app,
    onMethodNotAllowed: (c, methods) => {
      const accepted = methods.join(", ");
      const error = new InputError(`${c.req.path} takes ${accepted}, not ${c.req.method}.`, {
        path: ["method"],
        value: c.req.method,
        accepted,
        status: 405,
      });
      return answerProblem(c, error, { allow: accepted });
    },
  });
}

function accessLog(): MiddlewareHandler {
  return async (c, next) => {
    const start = performance.now();
    await next();
    log[PROBES.has(c.req.path) ? "debug" : "info"]("{method} {path} {status}", {
      method: c.req.method,
      path: c.req.path,
      status: c.res.status,
      ms: Math.round(performance.now() - start),
      request_id: c.get("requestId"),
    });
  };
}
