/**
 * The tokens that a text is searched for before anything else: those of `tokenizer.json`, and those that the files beside it
 * name, put together as transformers does.
 *
 * @module
 */
import { mustBe, within } from "../errors.ts";
import { isObject } from "../json.ts";
import { count, flag, readList, text, unlike } from "./tokens/_fields.ts";
import { HIGHEST_ID, idOf } from "./tokens/_vocabulary.ts";
import type { AddedToken } from "./tokens/added_vocabulary.ts";

type Json = Readonly<Record<string, unknown>>;

/** A tokenizer's files, parsed; empty objects for those that are not there. */
export interface TokenizerFiles {
  readonly tokenizer: Json;
  readonly config: Json;
  readonly special_tokens_map: Json;
  readonly added_tokens: Json;
}

const NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/**
 * What the files call BOS, EOS and so on. A configuration with `added_tokens_decoder` stands alone; without it
 * `special_tokens_map.json` goes first.
 */
export function namedTokens({ config, special_tokens_map }: TokenizerFiles): Json {
  return "added_tokens_decoder" in config ? config : { ...config, ...special_tokens_map };
}

/** A token's text: given as such, or as an added token's `content`. */
export function contentOf(token: unknown): string | null {
  const content = isObject(token) ? token["content"] : token;
  return typeof content === "string" ? content : null;
}

/**
 * All added tokens. The Rust library keeps no id that `tokenizer.json` gives one: a token has the id that the vocabulary
 * gives it, or the next that is free.
 */
export function addedTokens(files: TokenizerFiles): (AddedToken & { readonly id: number })[] {
  const { tokenizer, config, added_tokens } = files;
  const { ids, size } = vocabularyOf(tokenizer);
  const tokens = new Map<string, AddedToken & { readonly id: number }>();
  let next = size;
  const add = (token: AddedToken) => {
    if (token.content === "") return;
    const known = tokens.get(token.content);
    const id = known?.id ?? ids(token.content) ?? next++;
    // The Rust library forgets of no token that it is special.
    tokens.set(token.content, { id, ...token, special: token.special || known?.special === true });
  };

  within([{ file: "tokenizer.json" }], () => {
    const list = tokenizer["added_tokens"] == null ? [] : readList(tokenizer, "added_tokens", checked);
    for (const token of list) add(token);
  });
  for (const { id } of tokens.values()) next = Math.max(next, id + 1);
  const named = namedTokens(files);
  const specials = namedSpecials(named).filter((token) => contentOf(token) !== null);
  const decoder = config["added_tokens_decoder"];
  if (isObject(decoder)) {
    // By number, as a JSON object's keys that are numbers come.
    for (const [id, token] of Object.entries(decoder)) {
      if (!isObject(token)) continue;
      const place = [{ file: "tokenizer_config.json" }, "added_tokens_decoder", id];
      add(within(place, () => checked({ ...token, id: Number(id) })));
    }
  } else {
    const withIds = Object.entries(added_tokens).map(([content, id]) =>
      [content, within([{ file: "added_tokens.json" }, content], () => idOf(id))] as const
    );
    for (const [content] of withIds.sort(([, a], [, b]) => a - b)) {
      if (tokens.has(content)) continue;
      add(addedToken({ content, special: specials.some((token) => contentOf(token) === content) }));
    }
  }
  for (const token of specials) {
    const known = tokens.get(contentOf(token)!);
    add(
      known ? { ...known, special: true } : addedToken({
        ...(isObject(token) ? token : {}),
        content: contentOf(token),
        special: true,
      }),
    );
  }
  return [...tokens.values()];
}

/** The tokens that the files name: the seven, the model's own (`image_token`), then the further ones, a list or by name. */
function namedSpecials(named: Json): unknown[] {
  const { extra_special_tokens: extra, additional_special_tokens: additional } = named;
  const further = isObject(extra) || Array.isArray(extra) ? Object.values(extra) : [];
  return [
    ...NAMES.map((name) => named[name]),
    ...Object.keys(named).filter((name) => name.endsWith("_token") && !NAMES.includes(name))
      .filter((name) => !isObject(extra) || !Object.hasOwn(extra, name))
      .map((name) => named[name]).filter((token) => typeof token === "string"),
    ...(further.length > 0 ? further : Array.isArray(additional) ? additional : []),
  ];
}

/** An added token whose fields are what they must be. */
function checked(token: unknown): AddedToken {
  if (!isObject(token)) {
    throw mustBe("an object", [], token, '{"id": 5, "content": "<|end|>"}');
  }
  text(token, "content");
  for (const name of ["single_word", "lstrip", "rstrip", "normalized", "special"]) {
    if (token[name] !== undefined) flag(token, name);
  }
  if (token["id"] !== undefined && count(token, "id", 0) > HIGHEST_ID) {
    throw unlike(token, "id", `a whole number from 0 to ${HIGHEST_ID}`);
  }
  return addedToken(token);
}

function addedToken(token: Json): AddedToken {
  const { content, single_word = false, lstrip = false, rstrip = false, special = false } = token;
  const { normalized = !special } = token;
  return { content, single_word, lstrip, rstrip, normalized, special } as AddedToken;
}

/** Ids of the model's own pieces, and how many there are: BPE has them by text, Unigram in order. */
function vocabularyOf({ model }: Json): { ids: (content: string) => number | undefined; size: number } {
  const vocab = isObject(model) ? model["vocab"] : undefined;
  if (Array.isArray(vocab)) {
    const ids = new Map(vocab.map((entry, id) => [Array.isArray(entry) ? entry[0] : undefined, id]));
    return { ids: (content) => ids.get(content), size: vocab.length };
  }
  const pieces = isObject(vocab) ? vocab as Record<string, number> : {};
  return {
    ids: (content) => Object.hasOwn(pieces, content) ? pieces[content] : undefined,
    size: Object.keys(pieces).length,
  };
}
