/** POST /score: candidates ranked by their average log-prob. */
import { createRoute, OpenAPIHono } from "@hono/zod-openapi";
import {
  type ScoreAnswer,
  ScoreAnswerSchema,
  type ScoreBody,
  type ScoredItem,
  ScoreLineSchema,
  ScoreRequestSchema,
  type Usage,
} from "../src/api/score.ts";
import type { Item } from "../src/api/score_item.ts";
import type { TrainingSettings } from "../src/api/settings.ts";
import { type ScoreRequest, stream } from "../src/engine/protocol.ts";
import { InputError } from "../src/errors.ts";
import { encodingOf, namesOf } from "../src/scoring/encoding.ts";
import { checkChatTemplate } from "../src/text/check_template.ts";
import { relocatedItem, toEngineItem } from "../src/scoring/items.ts";
import type { ScoreEncoding } from "../src/scoring/request.ts";
import { answerJson, jsonInTurns } from "./_json_in_turns.ts";
import { dropOf, patientStream } from "./_patient_stream.ts";
import { jobSettings, resolveWeights } from "./_weights.ts";
import type { Place } from "./_admission.ts";
import { hostPathsOf, problems, refusing, toProblem } from "./problem.ts";
import { refuseWhenStopping, type Service } from "./service_context.ts";

const NDJSON = "application/x-ndjson";

const score = createRoute({
  method: "post",
  path: "/score",
  summary: "Rank candidate responses by their average log-prob under a model.",
  request: { body: { required: true, content: { "application/json": { schema: ScoreRequestSchema } } } },
  responses: {
    200: {
      description:
        `One prompt's answer, or the items' in their order. With Accept: ${NDJSON} one line an item.`,
      content: {
        "application/json": { schema: ScoreAnswerSchema },
        [NDJSON]: { schema: ScoreLineSchema },
      },
    },
    ...problems(404, 409, 422, 429, 503, 507),
  },
});

/** POST /score. */
export function scoreRoutes(service: Service): OpenAPIHono {
  const app = new OpenAPIHono({ defaultHook: refusing(ScoreRequestSchema) });
  app.openapi(score, async (c) => {
    refuseWhenStopping(service);
    const body = c.req.valid("json");
    const job = jobSettings(service, body.adapter ?? null);
    // A job that is deleted meanwhile keeps its folder until the last item.
    using held = new DisposableStack();
    held.use(service.runner.uses.hold(body.adapter));
    const inLines = accepts(c.req.header("accept"), NDJSON);
    if (inLines) held.use((c.get("place" as never) as Place).keep());
    const request = await toRequest(service, body, job);
    const names = namesOf(body, job, request.encoding, request.quantization);
    // A client that goes takes its request with it, while its model is loaded too.
    const scored = stream(await service.engine, "score", request, { signal: c.req.raw.signal });
    const items = holding(held.move(), scored);
    const explain = (error: unknown) => inTermsOf(body, error);
    try {
      // The first item is waited for in either case: what is wrong with the request shows there.
      const first = await items.next();
      if (!first.done) refuseWithoutScore(request, first.value);
      if (inLines) {
        const lines = toLines(
          first,
          items,
          names,
          (error) => toProblem(explain(error), c.get("requestId" as never)),
          hostPathsOf(c),
        );
        // The declared answer is JSON by type; a stream of lines has none.
        return c.body(patientStream(lines, dropOf(c)), 200, {
          "content-type": NDJSON,
          "cache-control": "no-store, no-transform",
        }) as never;
      }
      const results: ScoredItem[] = [];
      for (let next = first; !next.done; next = await items.next()) results.push(next.value);
      return await answerJson(c, toAnswer(body, results, names)) as never;
    } catch (error) {
      throw explain(error);
    }
  });
  return app;
}

function toAnswer(body: ScoreBody, results: readonly ScoredItem[], names: Names): ScoreAnswer {
  const usage = results.reduce(
    (sum: Usage, item) => ({
      prompt_tokens: sum.prompt_tokens + item.usage.prompt_tokens,
      cached_prompt_tokens: sum.cached_prompt_tokens + item.usage.cached_prompt_tokens,
      candidate_tokens: sum.candidate_tokens + item.usage.candidate_tokens,
      total_tokens: sum.total_tokens + item.usage.total_tokens,
    }),
    { prompt_tokens: 0, cached_prompt_tokens: 0, candidate_tokens: 0, total_tokens: 0 },
  );
  const items = results.map(({ usage: _, encoding: __, ...item }) => item);
  const [first] = results;
  const [only] = items;
  if (first === undefined || only === undefined) throw new Error("The engine answered no item.");
  const encoding = { ...first.encoding, ...names };
  if (body.items !== undefined) return { model: body.model, items, encoding, usage };
  return { model: body.model, ...only, encoding, usage };
}

type Names = ReturnType<typeof namesOf>;

/** The items; a request's own variables of the template are not those of its one prompt. */
function itemsOf({ items, candidates = [], chat_template_kwargs: _, ...one }: ScoreBody): Item[] {
  return items ?? [{ ...one, candidates }];
}

/** What the engine is asked. */
type EngineRequest = ScoreRequest & { readonly encoding: ScoreEncoding };

async function toRequest(
  service: Service,
  body: ScoreBody,
  job: TrainingSettings | null,
): Promise<EngineRequest> {
  const { model, adapter = null, quantization, beta, token_logprobs } = body;
  await checkChatTemplate(body.chat_template);
  return {
    ...await resolveWeights(service, { model, adapter, quantization }),
    items: itemsOf(body).map(toEngineItem),
    ...encodingOf(body, job),
    beta,
    token_logprobs,
  };
}

/** @throws {InputError} where a request's only candidate has no score */
function refuseWithoutScore({ items }: EngineRequest, { results }: ScoredItem): void {
  const reason = results[0]?.reason;
  if (reason === undefined || items.length > 1 || results.length > 1) return;
  const why = reason[0]!.toLowerCase() + reason.slice(1);
  throw new InputError((field) => `${field} cannot be scored: ${why}`, {
    path: ["items", 0, "candidates", 0],
    value: items[0]?.candidates[0],
    accepted: "a candidate with a token to score, within the model's context",
  });
}

/** A line an item, made as they are asked for: a slow reader holds the scoring up rather than the memory. */
function toLines(
  first: IteratorResult<ScoredItem>,
  items: AsyncIterator<ScoredItem>,
  names: Names,
  explain: (error: unknown) => unknown,
  hidePaths: (json: string) => string,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let index = 0;
  let waiting: IteratorResult<ScoredItem> | null = first;
  let open = true;
  return new ReadableStream({
    async pull(controller) {
      const write = (json: string) => controller.enqueue(encoder.encode(`${json}\n`));
      try {
        const next = waiting ?? await items.next();
        waiting = null;
        // The client may have gone while the item was scored.
        if (!open) return;
        if (next.done) return controller.close();
        const { encoding, ...item } = next.value;
        const line = { index, ...item, ...index === 0 && { encoding: { ...encoding, ...names } } };
        controller.enqueue(await jsonInTurns(line, "\n"));
        index++;
      } catch (error) {
        if (!open) return;
        write(hidePaths(JSON.stringify(explain(error))));
        controller.close();
      }
    },
    async cancel() {
      open = false;
      await items.return?.();
    },
  });
}

/** An error about one of the engine's items at its place in the request, where a single prompt is no item. */
function inTermsOf(body: ScoreBody, error: unknown): unknown {
  if (body.items === undefined) return relocatedItem(error, ["items", 0], [], body);
  return body.items.reduce((error, item, i) => {
    const path = ["items", i];
    return relocatedItem(error, path, path, item);
  }, error as unknown);
}

function accepts(accept: string | undefined, type: string): boolean {
  return (accept ?? "").split(",").some((part) => part.split(";")[0]?.trim().toLowerCase() === type);
}

/** Items as they come, and what is held until the last. */
async function* holding<T>(held: Disposable, items: AsyncGenerator<T>): AsyncGenerator<T> {
  using _ = held;
  yield* items;
}
