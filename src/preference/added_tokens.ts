/**
 * The tokens that a text is searched for before anything else: those of `tokenizer.json`, and those that the files beside it
 * name, put together as transformers does.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { isObject } from "../json.ts";

type Json = Readonly<Record<string, unknown>>;

/** A tokenizer's files, parsed; empty objects for those that are not there. */
export interface TokenizerFiles {
  readonly tokenizer: Json;
  readonly config: Json;
  readonly special_tokens_map: Json;
  readonly added_tokens: Json;
}

/** As `tokenizer.json` has it. */
interface AddedToken {
  readonly content: string;
  /** Found as a whole word alone. */
  readonly single_word: boolean;
  /** White space before it belongs to it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Searched for in the normalised text. */
  readonly normalized: boolean;
  readonly special: boolean;
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
 * `tokenizer.json` with all added tokens among its own. One without an id in the vocabulary gets the next that is free.
 *
 * @throws InputError for a token with `single_word`, which the tokenizer does not know
 */
export function withAddedTokens(files: TokenizerFiles): Json {
  const { tokenizer, config, added_tokens } = files;
  const vocabulary = vocabularyOf(tokenizer);
  const tokens = new Map<string, AddedToken & { readonly id: number }>();
  let last = vocabulary.size - 1;
  const add = (token: AddedToken, known?: number) => {
    const id = known ?? tokens.get(token.content)?.id ?? vocabulary.get(token.content) ?? last + 1;
    last = Math.max(last, id);
    tokens.set(token.content, { id, ...token });
  };

  for (const token of objects(tokenizer["added_tokens"])) add(addedToken(token), Number(token["id"]));
  const named = namedTokens(files);
  const specials = [
    ...NAMES.map((name) => named[name]),
    ...[named["extra_special_tokens"] ?? named["additional_special_tokens"]].flat(),
  ].filter((token) => contentOf(token) !== null);
  const decoder = config["added_tokens_decoder"];
  if (isObject(decoder)) {
    // By number, as a JSON object's keys that are numbers come.
    for (const token of objects(Object.values(decoder))) add(addedToken(token));
  } else {
    const inOrder = Object.entries(added_tokens).sort(([, a], [, b]) => Number(a) - Number(b));
    for (const [content] of inOrder) {
      if (tokens.has(content)) continue;
      add(addedToken({ content, special: specials.some((token) => contentOf(token) === content) }));
    }
  }
  for (const token of specials) {
    if (!tokens.has(contentOf(token)!)) {
      add(addedToken({ ...(isObject(token) ? token : {}), content: contentOf(token), special: true }));
    }
  }

  const word = [...tokens.values()].find((token) => token.single_word);
  if (word !== undefined) {
    throw new InputError(
      `The added token ${JSON.stringify(word.content)} has single_word, which is not known here.`,
      {
        path: [{ file: "tokenizer.json" }],
        value: word,
        accepted: "added tokens without single_word",
      },
    );
  }
  return { ...tokenizer, added_tokens: [...tokens.values()] };
}

function addedToken(token: Json): AddedToken {
  const { content, single_word = false, lstrip = false, rstrip = false, special = false } = token;
  const { normalized = !special } = token;
  return { content, single_word, lstrip, rstrip, normalized, special } as AddedToken;
}

/** Ids of the model's own pieces: BPE has them by text, Unigram in order. */
function vocabularyOf({ model }: Json): ReadonlyMap<string, number> {
  const vocab = isObject(model) ? model["vocab"] : undefined;
  if (Array.isArray(vocab)) return new Map(vocab.map(([piece], id) => [piece, id]));
  return new Map(isObject(vocab) ? Object.entries(vocab) as [string, number][] : []);
}

function objects(list: unknown): Json[] {
  return Array.isArray(list) ? list.filter(isObject) : [];
}
