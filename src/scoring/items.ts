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

/** An item as the engine takes it: beside turns a prompt of text is a user's turn, a candidate of text an assistant's. */
export function toEngineItem({ prompt, messages, candidates }: Item): EngineItem {
  const given = toText(messages ?? prompt ?? "");
  const texts = candidates.map(toText);
  if (![given, ...texts].some(isTurns)) return { prompt: given, candidates: texts };
  const asTurns = (text: ScoreText, role: string): ScoreText => {
    if (typeof text !== "string") return text;
    return text === "" ? [] : [{ role, content: text }];
  };
  return { prompt: asTurns(given, "user"), candidates: texts.map((text) => asTurns(text, "assistant")) };
}

function isTurns(text: ScoreText): boolean {
  return typeof text[0] === "object";
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
