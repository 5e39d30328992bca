/** Items of a request as the engine takes them, and back. */
import type { Item } from "../api/score.ts";
import { type Path, relocated } from "../errors.ts";
import type { Message } from "../preference/rows.ts";
import type { ScoreRequest, ScoreText } from "./request.ts";

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

/** An item as the engine takes it: beside a conversation a text is an assistant's turn. */
export function toEngineItem({ prompt, messages, candidates }: Item): EngineItem {
  const given = toText(messages ?? prompt ?? "");
  const isChat = typeof given === "object" && typeof given[0] === "object";
  return {
    prompt: given,
    candidates: candidates.map(toText).map((text) =>
      isChat && typeof text === "string" ? [{ role: "assistant", content: text }] : text
    ),
  };
}

type EngineItem = ScoreRequest["items"][number];

function toText(given: Item["candidates"][number]): ScoreText {
  if (typeof given === "string" || typeof given[0] === "number") return given as ScoreText;
  return (given as GivenMessage[]).map((message): Message => {
    const { content = null } = message;
    return {
      ...message,
      content: Array.isArray(content) ? content.map(({ text = "" }) => text).join("") : content,
    };
  });
}

type GivenMessage = Extract<Item["messages"], object>[number];
