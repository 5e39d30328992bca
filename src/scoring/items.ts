/** Items of a request as the engine takes them, and back. */
import type { Item } from "../api/score.ts";
import { type Path, relocated } from "../errors.ts";
import type { ScoreRequest } from "./request.ts";

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
