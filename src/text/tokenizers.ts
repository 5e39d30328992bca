/** Tokenizers that stay in the text thread, the least recently used dropped first. */
import { readModelConfig } from "../model/config.ts";
import { folderVersion } from "../model/folder_version.ts";
import { loadTokenizer, type Tokenizer } from "../preference/tokenizer.ts";
import type { EncodingModel } from "../scoring/encode.ts";
import type { ScoringWeights } from "../scoring/request.ts";
import type { Pulse } from "./pulse.ts";

/** As many as scorers stay on the GPU. */
const KEPT = 4;

/** Without a tokenizer's pulse: that is of the call that uses it. The last is the most recently used. */
const kept = new Map<string, EncodingModel>();

/** A model's tokenizer as training reads it. @throws {InputError} where its files cannot be used */
export async function trainingTokenizer(model: string, pulse: Pulse): Promise<EncodingModel> {
  return await scoringTokenizer({ model, adapter: null }, pulse);
}

/**
 * A model's tokenizer, with what an adapter's folder has of one.
 *
 * @throws {InputError} where their files cannot be used
 */
export async function scoringTokenizer(
  { model, adapter }: Pick<ScoringWeights, "model" | "adapter">,
  pulse: Pulse,
): Promise<EncodingModel> {
  pulse.beat("reads files");
  if (adapter !== null) {
    const { hasAdapter } = await import("../model/adapter.ts");
    if (!await hasAdapter(adapter)) return await scoringTokenizer({ model: adapter, adapter: null }, pulse);
  }
  const key = `${folderVersion(model)} ${adapter === null ? "" : folderVersion(adapter)}`;
  let found = kept.get(key);
  if (found === undefined) {
    found = adapter === null ? await ofModel(model) : await ofAdapter(model, adapter, pulse);
    if (kept.size >= KEPT) kept.delete(kept.keys().next().value!);
  }
  kept.delete(key);
  kept.set(key, found);
  return { ...found, tokenizer: watched(found.tokenizer, pulse) };
}

async function ofModel(model: string): Promise<EncodingModel> {
  return { config: await readModelConfig(model), tokenizer: await loadTokenizer(model) };
}

async function ofAdapter(model: string, adapter: string, pulse: Pulse): Promise<EncodingModel> {
  // the first score need not wait for these
  const [{ resizedVocabulary }, { hasSameTokenizer }] = await Promise.all([
    import("../model/adapter.ts"),
    import("../model/tokenizer_files.ts"),
  ]);
  // a job's adapter has the model's own files beside it: a large tokenizer takes most of a second
  const base = await hasSameTokenizer(model, adapter)
    ? await scoringTokenizer({ model, adapter: null }, pulse)
    : { config: await readModelConfig(model), tokenizer: await loadTokenizer(model, adapter) };
  const vocab_size = await resizedVocabulary(adapter, base.config);
  return vocab_size === undefined ? base : { ...base, config: { ...base.config, vocab_size } };
}

/** A tokenizer whose steps are seen in the pulse. */
function watched(tokenizer: Tokenizer, pulse: Pulse): Tokenizer {
  const own: Tokenizer = {
    ...tokenizer,
    encode: (text, options) => {
      pulse.beat("tokenises");
      return tokenizer.encode(text, options);
    },
    renderChat: (messages, options) => {
      pulse.beat("renders");
      return tokenizer.renderChat(messages, options);
    },
    decode: (ids) => {
      pulse.beat("tokenises");
      return tokenizer.decode(ids);
    },
    withChatTemplate: (source) => {
      const other = tokenizer.withChatTemplate(source);
      return other === tokenizer ? own : watched(other, pulse);
    },
  };
  return own;
}
