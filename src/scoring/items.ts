/** Items of a request as the engine takes them, and back. */
import type { Item } from "../api/score_item.ts";
import { type Path, relocated } from "../errors.ts";
import type { Message } from "../preference/rows.ts";
import type { ScoreRequestItem, ScoreText } from "./request.ts";

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

/**
 * An item as the engine takes it: beside turns or tools a prompt of text is a user's turn, a candidate of text an
 * assistant's.
 */
export function toEngineItem(
  { prompt, messages, candidates, tools, chat_template_kwargs }: ItemFields,
): ScoreRequestItem {
  const given = toText(messages ?? prompt ?? "");
  const texts = candidates.map(toText);
  const extras = {
    ...(tools != null && tools.length > 0 && { tools }),
    ...(chat_template_kwargs != null && { chat_template_kwargs }),
  };
  const isChat = "tools" in extras || [given, ...texts].some((text) => typeof text[0] === "object");
  const asTurns = (text: ScoreText, role: string): ScoreText => {
    if (!isChat || typeof text !== "string") return text;
    return text === "" ? [] : [{ role, content: text }];
  };
  return {
    prompt: asTurns(given, "user"),
    candidates: texts.map((text) => asTurns(text, "assistant")),
    ...extras,
  };
}

type ItemFields = Omit<Item, "chat_template_kwargs"> & Partial<Pick<Item, "chat_template_kwargs">>;

/** Turns are given to the template as those of rows are: parts put together, without keys that are null. */
function toText(given: Item["candidates"][number]): ScoreText {
  if (typeof given === "string" || typeof given[0] === "number") return given as ScoreText;
  return (given as GivenMessage[]).map((message) => {
    const kept = Object.entries(message).flatMap(([key, value]) => {
      if (key === "content" && Array.isArray(value)) {
        return [[key, value.map(({ text }) => text).join("")]];
      }
      return key === "content" || value !== null ? [[key, value]] : [];
    });
    return Object.fromEntries(kept) as Message;
  });
}

type GivenMessage = Extract<Item["messages"], object>[number];
