import { InputError, within } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { addedTokens, contentOf, namedTokens } from "./added_tokens.ts";
import { readJson } from "./_small_files.ts";
import { ChatTemplate, chooseTemplate, stoppedTemplate } from "./chat_template.ts";
import { BoundError } from "./jinja/mod.ts";
import type { Message } from "./rows.ts";
import { readTemplates } from "./template_files.ts";
import { loadTranslator } from "./tokens/_pattern.ts";
import { type EncodeOptions, TextTokenizer } from "./tokens/text_tokenizer.ts";

/** What a chat template is given beside the turns. */
export interface TemplateOptions {
  /** Whether the text ends with the opening of the assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Functions that the assistant may call, as JSON schemas; none where it is left out. */
  readonly tools?: readonly unknown[] | null | undefined;
  /** Further variables by name, as `chat_template_kwargs` has them: `enable_thinking`, `documents`, … */
  readonly kwargs?: Readonly<Record<string, unknown>> | null | undefined;
}

/** A model's tokenizer and chat template. */
export interface Tokenizer {
  /**
   * Token ids of a text; special tokens written out in the text are recognised, none are added.
   *
   * @throws {InputError} where the tokenizer has no token for a part of the text
   */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * Of each special token that a text spells, or that it ends in the midst of, the place of a character in UTF-16 units,
   * ascending: as long as another stands there the text holds no such token.
   */
  specialPlaces(text: string): readonly number[];
  /** Text of token ids, special tokens included. */
  decode(ids: ArrayLike<number>): string;
  /** Text of one token with its leading space, `""` for an id that has none. */
  token(id: number): string;
  /** The `bos_token`'s id. */
  readonly bos: number | null;
  /** Every id that ends a generation: the tokenizer's `eos_token`, then `generation_config.json`'s. */
  readonly eos: readonly number[];
  /** The `eos_token`'s id: the one that is added. */
  readonly eosId: number | null;
  /** Whether a text starts with BOS: `add_bos_token` where given, else what the tokenizer's post-processor does. */
  readonly addBos: boolean;
  /** Highest token id + 1. */
  readonly vocabSize: number;
  /** Jinja source, of several the default one; null where the model has none. */
  readonly chatTemplate: string | null;
  /** Turns as text, by the model's template. @throws {InputError} where there is no template, or it refuses the turns */
  renderChat(messages: readonly Message[], options: TemplateOptions): string;
  /**
   * This tokenizer with another chat template, or one of its own by its name; this one where none is given.
   *
   * @throws {InputError} where a text is neither
   */
  withChatTemplate(source: string | null | undefined): Tokenizer;
}

/**
 * Reads the tokenizer of a Hugging Face model directory: `tokenizer.json` and, where they are there,
 * `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`, `generation_config.json` and chat templates.
 *
 * @param adapter folder of an adapter, whose tokenizer goes before the model's, and its templates too. Where it has no
 * tokenizer.json, the special tokens that its files name are added to the model's.
 * @throws {InputError} naming the file at fault.
 *
 * @example Tokens of a text
 * ```ts
 * import assert from "node:assert/strict";
 * import { loadTokenizer } from "./tokenizer.ts";
 * import { fileURLToPath } from "node:url";
 * const tokenizer = await loadTokenizer(fileURLToPath(import.meta.resolve("../../examples/tiny-llama")));
 * assert.equal(tokenizer.encode("74").length, 2);
 * ```
 */
export async function loadTokenizer(dir: string, adapter: string | null = null): Promise<Tokenizer> {
  const own = adapter === null ? null : await readJson(adapter, "tokenizer.json");
  const json = own ?? await readJson(dir, "tokenizer.json");
  if (json === null) {
    throw new InputError(
      "The model has no tokenizer.json, and other files (tokenizer.model, vocab.json) are not read: " +
        'AutoTokenizer.from_pretrained("folder").save_pretrained("folder") of transformers writes it.',
      { path: [{ file: "tokenizer.json" }], value: dir, accepted: "a folder with a tokenizer.json" },
    );
  }
  const read = async (file: string) => ({
    ...own === null ? await readJson(dir, file) : {},
    ...adapter === null ? {} : await readJson(adapter, file),
  });
  const config: Record<string, unknown> = await read("tokenizer_config.json");
  const files = {
    tokenizer: json,
    config,
    special_tokens_map: await read("special_tokens_map.json"),
    added_tokens: await read("added_tokens.json"),
  };
  const specials = namedTokens(files);
  const generation = await readJson(dir, "generation_config.json") ?? {};

  await loadTranslator([json.normalizer, json.pre_tokenizer, json.decoder]);
  const added = addedTokens(files);
  const model = within([{ file: "tokenizer.json" }], () => new TextTokenizer(json, added));
  const splitsSpecials = config.split_special_tokens === true;
  const encode = (text: string, options: EncodeOptions = {}): number[] =>
    model.encode(text, {
      ...options,
      split_special_tokens: options.split_special_tokens ?? splitsSpecials,
    });
  const decode = (ids: ArrayLike<number>): string => model.decode(Array.from(ids));
  const token = (id: number): string => {
    const piece = model.token(id);
    if (piece === undefined) return "";
    const text = decode([id]);
    // Sentencepiece decoders take the first token's space away; a token in the middle of a text has it.
    return piece.startsWith("\u2581") && !text.startsWith(" ") ? ` ${text}` : text;
  };
  const idOf = (name: string): number | null => {
    const content = contentOf(specials[name]);
    return content === null ? null : model.idOf(content) ?? null;
  };

  const bos = idOf("bos_token");
  const eosId = idOf("eos_token");
  const ends = [eosId, ...[generation.eos_token_id].flat()].filter((id) => Number.isInteger(id)) as number[];
  const addsBos = typeof config.add_bos_token === "boolean" ? config.add_bos_token : model.prefix[0] === bos;
  const specialTokens = specialTokensOf(specials);

  const known = await readTemplates(dir);
  const withTemplates = (templates: ReadonlyMap<string, string> | null): Tokenizer => {
    const compiled = new Map<string, ChatTemplate>();
    const tokenizer: Tokenizer = {
      encode,
      specialPlaces: (text) => model.specialPlaces(text),
      decode,
      token,
      bos,
      eos: [...new Set(ends)],
      eosId,
      addBos: bos !== null && addsBos,
      vocabSize: model.vocabSize,
      chatTemplate: templates?.get("default") ?? [...templates?.values() ?? []][0] ?? null,
      renderChat: (messages, options) => {
        if (templates === null) {
          throw new InputError("The model has no chat template; give prompts and responses as strings.", {
            accepted:
              "strings, a chat_template, or a model with chat_template.jinja or tokenizer_config.json: chat_template",
          });
        }
        const source = chooseTemplate(templates, options.tools);
        try {
          let template = compiled.get(source);
          if (template === undefined) compiled.set(source, template = new ChatTemplate(source));
          return template.render({ ...options, messages, specialTokens });
        } catch (error) {
          if (error instanceof InputError) throw error;
          if (error instanceof BoundError) throw stoppedTemplate(error);
          throw new InputError(`The chat template refuses the messages: ${messageOf(error)}`, {
            value: messages.map((message) => message.role),
            accepted: "turns that the chat template allows",
          });
        }
      },
      withChatTemplate: (source) => {
        if (source == null) return tokenizer;
        const text = templates?.get(source) ?? known?.get(source) ?? source;
        if (text.includes("{")) return withTemplates(new Map([["default", text]]));
        const names = [...new Map([...known ?? [], ...templates ?? []]).keys()].sort().join(", ");
        throw new InputError(
          (field) => `${field} ${show(text)} is neither Jinja source nor one of the model's.`,
          {
            path: ["chat_template"],
            value: text,
            accepted: names === "" ? "Jinja source" : `Jinja source, or one of ${names}`,
          },
        );
      },
    };
    return tokenizer;
  };
  return withTemplates(adapter === null ? known : await readTemplates(adapter) ?? known);
}

/** Texts of all tokens that the files name, as transformers gives them to templates: one without a text is not there. */
function specialTokensOf(specials: Readonly<Record<string, unknown>>): Record<string, string> {
  const named = Object.entries(specials).filter(([name]) => name.endsWith("_token"));
  const own = [specials.extra_special_tokens, specials.model_specific_special_tokens].filter(isObject);
  const texts = [...named, ...own.flatMap(Object.entries)].map(([name, token]) =>
    [name, contentOf(token)] as const
  );
  return Object.fromEntries(texts.filter((entry): entry is [string, string] => entry[1] !== null));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
