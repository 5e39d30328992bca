/** Reads a request's JSON within bounds, before its schema sees it. */
import type { Context, MiddlewareHandler, Next } from "hono";
import { HTTPException } from "hono/http-exception";
import { InputError } from "../src/errors.ts";
import { readJson } from "../src/json_thread.ts";

const JSON_TYPE = /^application\/([\w.-]+\+)?json\s*(;|$)/i;

/** Puts the body's value where a route's validator looks for it. */
export function jsonBody(): MiddlewareHandler {
  return async (c, next) => {
    const { raw } = c.req;
    const encoding = raw.headers.get("content-encoding");
    if (encoding !== null && encoding.toLowerCase() !== "identity") {
      throw new InputError("Content-Encoding must be left out: bodies are taken as they are.", {
        path: ["Content-Encoding"],
        value: encoding,
        accepted: "no Content-Encoding",
        status: 415,
      });
    }
    if (raw.body !== null && JSON_TYPE.test(raw.headers.get("content-type") ?? "")) {
      const bytes = new Uint8Array(await c.req.arrayBuffer());
      // Some clients announce JSON and send none where a route takes no body.
      const value = bytes.length === 0 ? undefined : await readJson(bytes);
      c.req.json = <T>() =>
        value === undefined ? Promise.reject(new SyntaxError("No body.")) : Promise.resolve(value as T);
    }
    await next();
  };
}

/** An empty body is none, whatever content type it is announced with; another must be JSON. */
export async function emptyIsNone(c: Context, next: Next): Promise<void> {
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
