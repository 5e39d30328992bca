import { type Json, readList, readTyped, unlike } from "./_fields.ts";
import { within } from "../../errors.ts";
import { isObject, show } from "../../json.ts";
import { idOf } from "./_vocabulary.ts";

/** Reads of a `post_processor` what it puts before a single text: token ids. @throws {InputError} naming the field at fault */
export function readPostProcessor(json: unknown): readonly number[] {
  return readTyped("post-processor", json, READERS);
}

const READERS: Readonly<Record<string, (json: Json) => readonly number[]>> = {
  ByteLevel: () => [],
  // Each puts its own before what the one before it made.
  Sequence: (json) => readList(json, "processors", readPostProcessor).reverse().flat(),
  BertProcessing: classToken,
  RobertaProcessing: classToken,
  TemplateProcessing: (json) => {
    const { single, special_tokens } = json;
    if (!Array.isArray(single)) throw unlike(json, "single", "a list");
    const ids: number[] = [];
    for (const piece of single) {
      const token = isObject(piece) ? piece["SpecialToken"] : undefined;
      if (!isObject(token)) break;
      const { id } = token;
      const special = typeof id === "string" && isObject(special_tokens) ? special_tokens[id] : undefined;
      if (!isObject(special) || !Array.isArray(special["ids"])) {
        throw unlike(json, "special_tokens", `ids of ${show(id)}`);
      }
      for (const id of special["ids"]) ids.push(within(["special_tokens"], () => idOf(id)));
    }
    return ids;
  },
};

function classToken(json: Json): readonly number[] {
  const cls = json["cls"];
  if (!Array.isArray(cls)) throw unlike(json, "cls", '["[CLS]", 101]');
  return [within(["cls"], () => idOf(cls[1]))];
}
