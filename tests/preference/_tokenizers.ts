/** Tiny tokenizers in Hugging Face files, one of each style, written into a temporary model directory. */
import { dirname, join } from "node:path";
import { loadTokenizer, type Tokenizer } from "../../src/preference/tokenizer.ts";

export type Files = Record<string, unknown>;

/** ChatML: the header opens a turn, `<|im_end|>` and a line feed close it. */
export const CHATML =
  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n" +
  "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/** As Llama 3 has it: BOS before the first turn, no line feed after the end of a turn. */
export const LLAMA3 = "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}" +
  "<h>{{ message.role }}</h>\n{{ message.content | trim }}<eot>{% endfor %}{% if add_generation_prompt %}<h>assistant</h>\n{% endif %}";

/** As Llama 2 has it: no generation prompt, no lone assistant turn. */
const LLAMA2 = "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}" +
  "{{ raise_exception('roles must alternate') }}{% endif %}{% if message.role == 'user' %}{{ bos_token + '[INST] ' + message.content + ' [/INST]' }}" +
  "{% else %}{{ ' ' + message.content + ' ' + eos_token }}{% endif %}{% endfor %}";

function addedTokens(contents: readonly string[], from: number) {
  return contents.map((content, index) => ({
    id: from + index,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
}

/** GPT-2's spelling of bytes as printable characters. */
function byteCharacters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCharCode(printable ? byte : next++);
  });
}

function bpe(pieces: readonly string[], merges: readonly string[]) {
  const all = [...pieces, ...merges.map((merge) => merge.replace(" ", ""))];
  return {
    type: "BPE",
    dropout: null,
    unk_token: null as string | null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    vocab: Object.fromEntries(all.map((piece, id) => [piece, id])),
    merges,
  };
}

/** Byte-level BPE: ids 0-255 are the bytes in order, then one id a merge, then the special tokens. */
export function byteLevel(
  merges: readonly string[],
  specials: readonly string[],
  bos: string | null = null,
): Files {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens(specials, 256 + merges.length),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: bos === null ? null : startsWith(bos, 256 + merges.length + specials.indexOf(bos)),
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: bpe(byteCharacters(), merges),
  };
}

/** Sentencepiece as Llama 2 has it: `<unk>` 0, `<s>` 1, `</s>` 2, 256 bytes, then letters, then the merges. */
export function sentencepiece(merges: readonly string[] = []): Files {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const letters = [..."\u2581abcdefghijklmnopqrstuvwxyzINST[]/"];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens(["<unk>", "<s>", "</s>"], 0),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "\u2581" },
        { type: "Replace", pattern: { String: " " }, content: "\u2581" },
      ],
    },
    pre_tokenizer: null,
    post_processor: startsWith("<s>", 1),
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "\u2581" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      ...bpe(["<unk>", "<s>", "</s>", ...bytes, ...letters], merges),
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
    },
  };
}

function startsWith(bos: string, id: number) {
  return {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: { [bos]: { id: bos, ids: [id], tokens: [bos] } },
  };
}

/** Runs with a directory that holds the files (strings as they are, the rest as JSON), then removes it. */
export async function withFiles<T>(files: Files, use: (dir: string) => Promise<T>): Promise<T> {
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(dirname(join(dir, name)), { recursive: true });
      await Deno.writeTextFile(
        join(dir, name),
        typeof content === "string" ? content : JSON.stringify(content),
      );
    }
    return await use(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

export function load(files: Files): Promise<Tokenizer> {
  return withFiles(files, loadTokenizer);
}

/** Byte-level, no BOS, ChatML; merges "a b" and "b c", the second with the higher rank. */
export const chatml = await load({
  "tokenizer.json": byteLevel(["b c", "a b"], ["<|im_start|>", "<|im_end|>"]),
  "tokenizer_config.json": { eos_token: "<|im_end|>", chat_template: CHATML },
});

/** Byte-level with BOS by post-processor, Llama 3's kind of template and a second end from generation_config.json. */
export const llama3 = await load({
  "tokenizer.json": byteLevel([], ["<bos>", "<h>", "</h>", "<eot>", "<end>"], "<bos>"),
  "tokenizer_config.json": { bos_token: { content: "<bos>" }, eos_token: { content: "<end>" } },
  "chat_template.jinja": LLAMA3,
  "generation_config.json": { eos_token_id: [260, 259] },
});

/** Sentencepiece with BOS by post-processor and Llama 2's kind of template. */
export const llama2 = await load({
  "tokenizer.json": sentencepiece(["\u2581 a", "a b"]),
  "tokenizer_config.json": {
    add_bos_token: true,
    bos_token: "<s>",
    eos_token: "</s>",
    chat_template: LLAMA2,
  },
});
