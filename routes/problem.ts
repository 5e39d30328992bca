/** Errors as application/problem+json (RFC 9457), with the refused field, its value and what would be accepted. */
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import type { z } from "zod";
import { type Problem, ProblemSchema } from "../src/api/problem.ts";
import { boundedText, boundedValue } from "../src/bounded.ts";
import { InputError } from "../src/errors.ts";
import { logger } from "../src/log.ts";
import { inputErrorOf } from "../src/validation.ts";

const log = logger("http");

/** What each part of an answer is cut to: a request may hold megabytes where a word was expected. */
const MOST_CHARACTERS = 1000;

const TITLES: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  416: "Range Not Satisfiable",
  421: "Misdirected Request",
  422: "Unprocessable Content",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
  507: "Insufficient Storage",
};

/** What every route answers but the probes: see `_access.ts` and `_body.ts`. */
const EVERYWHERE = [400, 401, 403, 408, 413, 415, 421, 500] as const;

/** Error answers of a route, for its description. */
export function problems<const Status extends number>(...statuses: Status[]) {
  return problemsOf<(typeof EVERYWHERE)[number] | Status>(...EVERYWHERE, ...statuses);
}

/** Error answers of a route that anyone may ask, for its description. */
export function problemsOf<const Status extends number>(...statuses: Status[]) {
  const answer = (status: number) => ({
    description: TITLES[status] ?? "Error",
    content: { "application/problem+json": { schema: ProblemSchema } },
  });
  return Object.fromEntries(statuses.map((status) => [status, answer(status)])) as Record<
    Status,
    ReturnType<typeof answer>
  >;
}

/**
 * Refuses a request that its schemas refuse, in our words.
 *
 * @param body the schema of its JSON body
 */
export function refusing(body?: z.ZodType): NonNullable<OpenAPIHono["defaultHook"]> {
  return (result) => {
    if (result.success) return;
    const { data } = result as { data?: unknown };
    throw inputErrorOf(result.error, data, result.target === "json" ? body : undefined);
  };
}

/** An error as the answer's body. What is not the user's mistake is logged here and told without its inner workings. */
export function toProblem(error: unknown, requestId?: string): Problem {
  const told = tell(error, requestId);
  return {
    type: "about:blank",
    title: TITLES[told.status] ?? "Error",
    ...told,
    ...(requestId === undefined ? {} : { request_id: requestId }),
  };
}

/** The answer to an error. */
export function answerProblem(context: Context, error: unknown, headers?: Record<string, string>): Response {
  const problem = toProblem(error, context.get("requestId"));
  const body = context.req.path.startsWith("/v1/") ? { ...problem, error: toOpenAiError(problem) } : problem;
  const retryAfter = error instanceof InputError ? error.problem.retryAfter : undefined;
  return context.body(hostPathsOf(context)(JSON.stringify(body)), problem.status as 500, {
    "content-type": "application/problem+json",
    ...(retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }),
    ...headers,
  });
}

/** What leaves this machine's paths out of an answer's JSON. */
export function hostPathsOf(context: Context): (json: string) => string {
  return context.get("hideHostPaths") ?? ((json) => json);
}

function toOpenAiError({ detail, status, field }: Problem): Problem["error"] {
  const type = status < 500 ? "invalid_request_error" : "server_error";
  return { message: detail, type, param: field ?? null, code: null };
}

function tell(error: unknown, requestId?: string): Omit<Problem, "type" | "title" | "request_id"> {
  if (error instanceof InputError) {
    const { value, accepted } = error.problem;
    return {
      status: error.status,
      detail: boundedText(error.message, MOST_CHARACTERS),
      field: boundedText(error.field, MOST_CHARACTERS),
      ...(value === undefined ? {} : { value: boundedValue(value, MOST_CHARACTERS) }),
      ...(accepted === undefined ? {} : { accepted: boundedText(accepted, MOST_CHARACTERS) }),
    };
  }
  if (error instanceof HTTPException) {
    if (error.status === 400) {
      return { status: 400, detail: "The body must be JSON.", field: "body", accepted: "a JSON object" };
    }
    if (error.status === 415) {
      return {
        status: 415,
        detail: "Content-Type must be application/json.",
        field: "Content-Type",
        accepted: "application/json",
      };
    }
    return { status: error.status, detail: boundedText(error.message, MOST_CHARACTERS) };
  }
  log.error("A request failed: {error}", { error, request_id: requestId });
  return { status: 500, detail: "The worker failed at this request; its log says why." };
}
