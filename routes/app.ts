/** The HTTP interface, put together: what holds for every request, then a sub-app per resource. */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { timingSafeEqual } from "hono/utils/buffer";
import { InputError } from "../src/errors.ts";
import { logger } from "../src/log.ts";
import { admission } from "./_admission.ts";
import { completionRoutes } from "./completions.ts";
import { jsonBody } from "./_json_body.ts";
import { answerProblem, refusing } from "./problem.ts";
import { scoreRoutes } from "./score.ts";
import { addDescription, probeRoutes } from "./service.ts";
import type { Service } from "./service_context.ts";
import { trainRoutes } from "./train.ts";

const log = logger("http");

/** The status that proxies log for a client that went before its answer. */
const CLIENT_GONE = 499;

/**
 * Makes the app; `app.fetch` is a handler for `Deno.serve`, `app.request` calls it without a socket.
 *
 * @param service What the routes work with
 */
export function createApp(service: Service): OpenAPIHono {
  const { config } = service;
  const app = new OpenAPIHono({ defaultHook: refusing() });
  app.onError((error, c) => {
    const { signal } = c.req.raw;
    // Only the log sees it.
    if (signal.aborted && error === signal.reason) return c.body(null, CLIENT_GONE as 500);
    return answerProblem(
      c,
      error,
      error instanceof InputError && error.status === 401 ? { "www-authenticate": "Bearer" } : {},
    );
  });
  app.notFound((c) => {
    const route = `${c.req.method} ${c.req.path}`;
    const accepted = "a route that GET /openapi.json lists";
    return answerProblem(
      c,
      new InputError(`There is no ${route}.`, { path: ["path"], value: route, accepted, status: 404 }),
    );
  });

  app.use(requestId());
  app.use(accessLog());
  app.use(methodNotAllowed({
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
  }));
  app.route("/", probeRoutes(service));
  addDescription(app, config.token !== null);
  if (config.token !== null) app.use(bearerToken(config.token));
  app.on("POST", ["/score", "/v1/completions", "/train"], admission(config));
  app.use(bodyLimit({
    maxSize: config.maxBodyBytes,
    onError: () => {
      throw new InputError(`The body is longer than ${config.maxBodyBytes} bytes.`, {
        path: ["body"],
        accepted: `at most ${config.maxBodyBytes} bytes (SIMPO_MAX_BODY)`,
        status: 413,
      });
    },
  }));
  app.use(jsonBody());
  app.route("/", scoreRoutes(service));
  app.route("/", completionRoutes(service));
  app.route("/", trainRoutes(service));
  return app;
}

/** Lets requests through that carry the token. */
function bearerToken(token: string): MiddlewareHandler {
  return async (c, next) => {
    const given = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1] ?? "";
    if (!await timingSafeEqual(given, token)) {
      throw new InputError("Authorization must carry the worker's bearer token.", {
        path: ["Authorization"],
        accepted: "Bearer TOKEN, the worker's SIMPO_TOKEN",
        status: 401,
      });
    }
    await next();
  };
}

function accessLog(): MiddlewareHandler {
  return async (c, next) => {
    const start = performance.now();
    await next();
    const probe = c.req.path === "/livez" || c.req.path === "/readyz" || c.req.path === "/ping";
    log[probe ? "debug" : "info"]("{method} {path} {status}", {
      method: c.req.method,
      path: c.req.path,
      status: c.res.status,
      ms: Math.round(performance.now() - start),
      request_id: c.get("requestId"),
    });
  };
}
