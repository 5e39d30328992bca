import { join } from "node:path";
import process from "node:process";
import type { Gpu } from "../src/gpu/mod.ts";
import { EncodePool } from "../src/preference/encode_pool.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { groupTokens } from "../src/preference/pack.ts";
import { loadTokenizer } from "../src/preference/tokenizer.ts";
import { readExamples } from "../src/training/examples.ts";
import { Random } from "../src/training/random.ts";
import { type Findings, median, medianRatio, type Settings } from "./_rows.ts";

const VOCABULARY = 128_000;
const ROWS = 2_000;
/** Words of a prompt and of a response. */
const WORDS = { prompt: 320, response: 280 };
/** Llama 3's way to split a text. */
const SPLIT =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
  "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const TEMPLATE = "{% for turn in messages %}<|{{ turn.role }}|>\n{{ turn.content }}<|end|>{% endfor %}" +
  "{% if add_generation_prompt %}<|assistant|>\n{% endif %}";
const ENCODING = {
  max_length: 2048,
  max_prompt_length: 1024,
  truncation_mode: "keep_end",
  prompt_boundary: "trl",
} as const;

/** Rows of conversations to tokens, before a job's first step: on one thread, and by Workers. */
export async function benchTokens(_gpu: Gpu, settings: Settings): Promise<Findings> {
  const folder = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  try {
    await writeModelAndRows(folder);
    const job = { model: folder, chat_template: null, settings: ENCODING, vocabulary: VOCABULARY };
    using pool = new EncodePool(job);
    const start = performance.now();
    await pool.start();
    const started = (performance.now() - start) / 1000;
    const tokenizer = await loadTokenizer(folder);
    const dataset = { path: join(folder, "rows.jsonl") };
    const others = () => new Promise<void>((resolve) => setTimeout(resolve, 0));
    const options = {
      kind: "preference",
      tokenizer,
      settings: ENCODING,
      vocabulary: VOCABULARY,
      maxLeftOut: 0,
      pause: others,
    } as const;
    let sum = 0;
    const take = (group: EncodedGroup) => sum += groupTokens(group);
    const read = (pool: EncodePool | null) => readExamples(dataset, { ...options, pool }, take);
    await read(null); // warms up
    const tokens = sum / ROWS;
    const alone: number[] = [];
    const aside: number[] = [];
    for (let round = 0; round < Math.min(settings.rounds, 5); round++) {
      alone.push(await coreSeconds(() => read(null)));
      aside.push(await coreSeconds(() => read(pool)));
    }
    const rows = `${ROWS} rows of a prompt and two responses, ${tokens.toFixed(0)} tokens a row, ` +
      `${VOCABULARY / 1000}k entries`;
    return {
      rows: [
        {
          name: "rows of a data set read and tokenised in a second of one core's time",
          value: ROWS / median(alone),
          unit: "rows/s",
          shown: true,
          detail: `on one thread; ${rows}`,
        },
        {
          name: "the same by Workers: core time of all threads",
          value: medianRatio(aside, alone),
          unit: "of that on one thread",
          detail: `Workers: ${pool.size}, which had started in ${started.toFixed(1)} s; ${rows}`,
        },
      ],
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Processor time of all threads, which other processes on the machine lengthen less than the time by the clock. */
async function coreSeconds(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

/** A byte-level BPE tokenizer of a made-up language, and rows in it: as in a real one a few words are most of the text. */
async function writeModelAndRows(folder: string): Promise<void> {
  const random = new Random(11);
  const integer = (below: number) => Math.floor(random.next() * below);
  const pick = (list: string): string => list[integer(list.length)]!;
  const pieces = new Map<string, number>();
  const add = (piece: string) => pieces.set(piece, pieces.get(piece) ?? pieces.size);
  for (let code = 33; code < 127; code++) add(String.fromCharCode(code));
  for (const spelled of ["\u0120", "\u010a"]) add(spelled); // a space and a line feed
  const merges: string[] = [];
  const words: string[] = [];
  while (pieces.size < VOCABULARY - 8) {
    const length = 1 + integer(4);
    const word = Array.from({ length }, () => pick("bcdfghklmnprstvz") + pick("aeiou") + pick("aeiouynrst"))
      .join("");
    words.push(word);
    let piece = "\u0120";
    for (const letter of word) {
      if (!pieces.has(piece + letter)) merges.push(`${piece} ${letter}`);
      add(piece += letter);
    }
  }
  const specials = ["<|user|>", "<|assistant|>", "<|end|>"];
  const files = {
    "tokenizer.json": {
      version: "1.0",
      added_tokens: specials.map((content, index) => ({
        id: pieces.size + index,
        content,
        special: true,
        normalized: false,
      })),
      normalizer: null,
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          { type: "Split", pattern: { Regex: SPLIT }, behavior: "Isolated", invert: false },
          { type: "ByteLevel", add_prefix_space: false, use_regex: false },
        ],
      },
      post_processor: null,
      decoder: { type: "ByteLevel" },
      model: { type: "BPE", vocab: Object.fromEntries(pieces), merges },
    },
    "tokenizer_config.json": { eos_token: "<|end|>", chat_template: TEMPLATE },
  };
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeTextFile(join(folder, name), JSON.stringify(content));
  }
  // the nth word's share is near 1 / n
  const word = () => words[Math.floor(words.length ** random.next()) - 1]!;
  const text = (count: number) =>
    Array.from({ length: count }, () => integer(8) === 0 ? `${word()}.` : word()).join(" ");
  const lines = Array.from({ length: ROWS }, () => {
    const prompt = [{ role: "user", content: text(WORDS.prompt) }];
    const answer = () => [{ role: "assistant", content: text(WORDS.response) }];
    return JSON.stringify({ prompt, chosen: answer(), rejected: answer() });
  });
  await Deno.writeTextFile(join(folder, "rows.jsonl"), lines.join("\n"));
}
