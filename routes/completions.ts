/** POST /v1/completions as evaluation tools call it for the log-probs of a prompt's tokens, and GET /v1/models. */
import { createRoute, OpenAPIHono } from "@hono/zod-openapi";
import { join } from "node:path";
import type { z } from "zod";
import {
  type CompletionBody,
  CompletionRequestSchema,
  CompletionSchema,
  type Model,
  ModelsSchema,
} from "../src/api/completion.ts";
import {
  type ScoredSequence,
  type ScoringWeights,
  type SequenceRequest,
  stream,
} from "../src/engine/protocol.ts";
import { relocated } from "../src/errors.ts";
import { closedFolders, isClosed } from "../src/paths.ts";
import { turns } from "../src/turns.ts";
import { answerJson } from "./_json_in_turns.ts";
import { resolveWeights } from "./_weights.ts";
import { problems } from "./problem.ts";
import { refuseWhenStopping, type Service } from "./service_context.ts";

const completions = createRoute({
  method: "post",
  path: "/v1/completions",
  summary: "Log-probs of a prompt's tokens, as OpenAI's completions with echo give them.",
  request: { body: { required: true, content: { "application/json": { schema: CompletionRequestSchema } } } },
  responses: {
    200: { description: "The answer.", content: { "application/json": { schema: CompletionSchema } } },
    ...problems(404, 409, 422, 429, 503, 507),
  },
});

const models = createRoute({
  method: "get",
  path: "/v1/models",
  summary: "Folders with a config.json, at most two levels under the root, and jobs that have succeeded.",
  responses: {
    200: { description: "The list.", content: { "application/json": { schema: ModelsSchema } } },
    ...problems(),
  },
});

/** POST /v1/completions and GET /v1/models. */
export function completionRoutes(service: Service): OpenAPIHono {
  const app = new OpenAPIHono();
  app.openapi(completions, async (c) => {
    refuseWhenStopping(service);
    const body = c.req.valid("json");
    using _ = service.runner.uses.hold(body.model); // where it is a job's, and that is deleted meanwhile
    const prompts = promptsOf(body);
    const { max_tokens, add_special_tokens } = body;
    const prompt_logprobs = body.echo === true && body.logprobs != null;
    const settings = { max_tokens, add_special_tokens, prompt_logprobs };
    const request = { ...await weightsOf(service, body), prompts, ...settings };
    const choices: z.infer<typeof CompletionSchema>["choices"] = [];
    let prompt_tokens = 0;
    let cached_tokens = 0;
    const pass = turns();
    try {
      // A client that goes takes its request with it.
      const { signal } = c.req.raw;
      for await (const sequence of stream(await service.engine, "sequences", request, { signal })) {
        choices.push({ index: choices.length, ...toChoice(sequence, body) });
        prompt_tokens += sequence.tokens.length;
        cached_tokens += sequence.cached_prompt_tokens;
        await pass();
      }
    } catch (error) {
      // The engine counts a single prompt as the first; its sender knows of no others.
      throw isMany(body.prompt) ? error : relocated(error, ["prompt", 0], ["prompt"]);
    }
    const completion_tokens = max_tokens * choices.length;
    const answer: z.infer<typeof CompletionSchema> = {
      id: `cmpl-${c.get("requestId" as never)}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model: body.model,
      choices,
      usage: {
        prompt_tokens,
        prompt_tokens_details: { cached_tokens },
        completion_tokens,
        total_tokens: prompt_tokens + completion_tokens,
      },
    };
    return await answerJson(c, answer) as never;
  });

  app.openapi(models, async (c) => {
    const data = [...await modelFolders(service.config), ...await jobModels(service)];
    return await answerJson(c, { object: "list", data }) as never;
  });
  return app;
}

function isMany(prompt: CompletionBody["prompt"]): prompt is string[] | number[][] {
  return typeof prompt !== "string" && typeof prompt[0] !== "number";
}

function promptsOf({ prompt }: CompletionBody): SequenceRequest["prompts"] {
  return isMany(prompt) ? prompt : [prompt as string | number[]];
}

/** A prompt's tokens and the next, as far as they are asked for. */
function toChoice(
  { text, tokens, token_ids, token_logprobs, likeliest }: ScoredSequence,
  { echo, max_tokens, logprobs }: CompletionBody,
) {
  const next = likeliest.at(-1)!;
  const choice = {
    text: (echo ? text : "") + (max_tokens === 1 ? next.token : ""),
    finish_reason: "length" as const,
  };
  if (logprobs == null) return { ...choice, logprobs: null };
  const own = !echo ? [] : tokens.map((token, i) => {
    // Nothing predicts the first.
    if (i === 0) return { token, logprob: null, top: null };
    const logprob = token_logprobs[i - 1]!;
    const best = likeliest[i - 1]!;
    if (logprobs === 0 || best.id === token_ids[i]) return { token, logprob, top: { [token]: logprob } };
    const spelt = best.token === token ? `token_id:${best.id}` : best.token;
    return { token, logprob, top: { [spelt]: best.logprob, [token]: logprob } };
  });
  const { token, logprob } = next;
  const following = { token, logprob, top: { [token]: logprob } };
  const shown = [...own, ...max_tokens === 1 ? [following] : []];
  let offset = 0;
  const offsets = shown.map(({ token }) => {
    const start = offset;
    offset += [...token].length;
    return start;
  });
  return {
    ...choice,
    logprobs: {
      tokens: shown.map(({ token }) => token),
      token_logprobs: shown.map(({ logprob }) => logprob),
      top_logprobs: shown.map(({ top }) => top),
      text_offset: offsets,
    },
  };
}

/** What a `model` means: a folder, or a job's weights over the model that it started from. */
async function weightsOf(
  service: Service,
  { model, quantization }: CompletionBody,
): Promise<ScoringWeights> {
  const job = service.store.get(model);
  if (job === undefined) return await resolveWeights(service, { model, adapter: null, quantization });
  try {
    return await resolveWeights(service, { model: job.model, adapter: model, quantization });
  } catch (error) {
    throw relocated(error, ["adapter"], ["model"]);
  }
}

/** Names of folders that are read for {@link modelFolders}: hidden ones and packages hold no models. */
const isSearched = (name: string) => !name.startsWith(".") && name !== "node_modules";

async function modelFolders(config: Service["config"]): Promise<Model[]> {
  const { root } = config;
  const closed = await closedFolders(config);
  const found: Model[] = [];
  const visit = async (folder: string, depth: number): Promise<void> => {
    const entries = await Array.fromAsync(Deno.readDir(join(root, folder))).catch(() => []);
    for (const { name, isDirectory } of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
      if (!isDirectory || !isSearched(name)) continue;
      const id = folder === "" ? name : `${folder}/${name}`;
      if (isClosed(join(root, id), closed)) continue;
      const config = await Deno.stat(join(root, id, "config.json")).catch(() => null);
      if (config?.isFile) found.push(toModel(id, config.mtime?.getTime() ?? 0, null));
      else if (depth > 1) await visit(id, depth - 1);
    }
  };
  await visit("", 2);
  return found;
}

async function jobModels({ store }: Service): Promise<Model[]> {
  const found: Model[] = [];
  const pass = turns();
  for (let page = store.list(100); page.length > 0; page = store.list(100, store.numberOf(page.at(-1)!.id))) {
    for (const { id, status, model, finished_at } of page) {
      if (status === "succeeded") found.push(toModel(id, Date.parse(finished_at!), model));
    }
    await pass();
  }
  return found;
}

function toModel(id: string, milliseconds: number, parent: string | null): Model {
  const created = Math.floor(milliseconds / 1000);
  return { id, object: "model", created, owned_by: "simpo-worker", parent };
}
