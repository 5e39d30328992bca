/** Routes whose modules are loaded by the first request for them: the first score need not wait for these. */
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context, Handler, MiddlewareHandler } from "hono";

/** Routes that may not be there yet. */
export interface LaterRoutes {
  /** The routes, loaded now unless they were before. */
  readonly app: () => Promise<OpenAPIHono>;
  /** Hands a request on to them, behind what holds for every request. */
  readonly handle: Handler;
}

/** @param load makes the routes; the first thing that they use is {@link handedOn} */
export function later(load: () => Promise<OpenAPIHono>): LaterRoutes {
  let loaded: Promise<OpenAPIHono> | null = null;
  const app = () =>
    loaded ??= load().catch((error) => {
      loaded = null; // the next request tries again
      throw error;
    });
  return {
    app,
    handle: async (outer) => {
      const answer = await (await app()).fetch(outer.req.raw, { ...outer.env, outer });
      return outer.newResponse(answer.body, answer); // with the headers that the outer app has for it
    },
  };
}

/** Takes what the outer app knows of a request. */
export function handedOn(): MiddlewareHandler {
  return (c, next) => {
    const { outer } = c.env as { readonly outer: Context };
    for (const [name, value] of Object.entries(outer.var)) c.set(name as never, value as never);
    c.req.bodyCache = outer.req.bodyCache;
    if (Object.hasOwn(outer.req, "json")) c.req.json = outer.req.json;
    return next();
  };
}
