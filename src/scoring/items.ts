/** One prompt with its candidates, as `POST /score` and a line of a scoring file have it. */
import { z } from "@hono/zod-openapi";
import { type Path, relocated } from "../errors.ts";
import { strictObject } from "../validation.ts";
import type { ScoreRequest } from "./request.ts";

const MessageSchema = z.looseObject({ role: z.string().min(1), content: z.string() }).openapi("Message", {
  description: "One turn. Further keys reach the model's chat template as they are.",
});

const ConversationSchema = z.array(MessageSchema).min(1);

/** The fields of an item, each as it is where it is given. */
export const fields = {
  prompt: z.union([z.string(), ConversationSchema], { error: "a string or a list of messages" }).meta({
    description: "Plain text, taken as it is; or a conversation, as rows of preference data have it.",
    example: "2 + 2 =",
  }),
  messages: ConversationSchema.meta({
    description: "A conversation, which the model's chat template turns into text.",
  }),
  candidates: z.array(z.string().min(1)).min(1).meta({
    description: "Responses to compare; with messages each is an assistant's turn.",
    example: [" 4", " 5"],
  }),
};

/** What is accepted where `promptProblem` finds fault. */
export const oneOfPromptAndMessages =
  "one of prompt (a string or a list of messages) and messages (a list of messages)";

/** Why an item with these fields is refused; undefined: it is not. */
export function promptProblem(item: { prompt?: unknown; messages?: unknown }): string | undefined {
  if (item.prompt !== undefined && item.messages !== undefined) return "prompt and messages are both given";
  if (item.prompt === undefined && item.messages === undefined) return "prompt is missing";
  return undefined;
}

/** An item on its own. */
export const ItemSchema = strictObject({
  prompt: fields.prompt.optional(),
  messages: fields.messages.optional(),
  candidates: fields.candidates,
}).superRefine((item, context) => {
  const why = promptProblem(item);
  if (why === undefined) return;
  context.addIssue({
    code: "custom",
    path: ["prompt"],
    message: `${why}: give ${oneOfPromptAndMessages}.`,
    params: { accepted: oneOfPromptAndMessages },
  });
}).openapi("ScoreItem", { oneOf: [{ required: ["prompt"] }, { required: ["messages"] }] });

/** An item as its sender wrote it. */
export type Item = z.infer<typeof ItemSchema>;

/**
 * An error about an item that was given to the engine, in terms of the item as it came.
 *
 * @param from the item's place in the engine's request
 * @param to the item's place for its sender
 */
export function relocatedItem(
  error: unknown,
  from: Path,
  to: Path,
  { messages }: { readonly messages?: unknown },
): unknown {
  const prompt = messages === undefined ? "prompt" : "messages";
  return relocated(relocated(error, [...from, "prompt"], [...from, prompt]), from, to);
}

/** An item as the engine takes it: beside a conversation each candidate is an assistant's turn. */
export function toEngineItem(
  { prompt, messages, candidates }: Item,
): ScoreRequest["items"][0] {
  const text = messages ?? prompt ?? "";
  if (typeof text === "string") return { prompt: text, candidates };
  return { prompt: text, candidates: candidates.map((content) => [{ role: "assistant", content }]) };
}
