import type { Gpu } from "../src/gpu/mod.ts";
import { startEngine } from "../src/engine/client.ts";
import { type Engine, stream } from "../src/engine/protocol.ts";
import type { Tokenizer } from "../src/preference/tokenizer.ts";
import { encodeScore } from "../src/scoring/encode_request.ts";
import { Scorer } from "../src/scoring/scorer.ts";
import { Random } from "../src/training/random.ts";
import { contest, workContender } from "./_contest.ts";
import { randomModel, SIZES } from "./_model.ts";
import { type BenchRow, type Findings, median, medianRatio, type Settings } from "./_rows.ts";

const MODEL = decodeURIComponent(new URL("../examples/tiny-llama", import.meta.url).pathname);
const REQUESTS = 32;
const PROMPT = 512;
const CANDIDATES = 4;
const CANDIDATE = 32;

/** Requests that come at one time, and prompts that come again. */
export async function benchScoring(gpu: Gpu, settings: Settings): Promise<Findings> {
  const device = gpu.software ? "software" : "gpu";
  const engine = await startEngine({ device, allowSoftware: device === "software", promptCacheBytes: 0 });
  try {
    return { rows: [await concurrentRequests(engine, settings), await repeatedPrompt(gpu, settings)] };
  } finally {
    await engine.stop();
  }
}

/** Many small requests at one time beside one after another. */
async function concurrentRequests(engine: Engine, settings: Settings): Promise<BenchRow> {
  const requests = Array.from({ length: REQUESTS }, (_, i) => i);
  const one = (i: number) =>
    Array.fromAsync(stream(engine, "score", {
      model: MODEL,
      adapter: null,
      quantization: null,
      beta: 2,
      token_logprobs: false,
      items: [{ prompt: `Which is larger, ${i} or 74?`, candidates: [" It is 74.", ` It is ${i}.`] }],
    }));
  const { serial, together } = await contest(settings, {
    serial: workContender(async () => {
      for (const i of requests) await one(i);
    }),
    together: workContender(() => Promise.all(requests.map(one))),
  });
  return {
    name: `${REQUESTS} requests of one item at one time beside one after another`,
    value: medianRatio(together, serial),
    unit: "of the time",
    shown: true,
    detail: `examples/tiny-llama, two candidates each; ${median(together).toFixed(0)} and ${
      median(serial).toFixed(0)
    } ms, medians of ${settings.rounds} alternating rounds`,
  };
}

/** New candidates under a prompt that has come before, beside the same without the prompt cache. */
async function repeatedPrompt(gpu: Gpu, settings: Settings): Promise<BenchRow> {
  const model = await randomModel(gpu, SIZES, "nothing");
  const random = new Random(7);
  const text = (tokens: number) =>
    Array.from({ length: tokens }, () => ` ${Math.floor(random.next() * SIZES.vocab_size)}`).join("");
  const prompt = text(PROMPT);
  const scorer = (promptCacheBytes: number) =>
    new Scorer(gpu, model.decoder, { promptCacheBytes, makeRoom: () => false });
  const scorers = { cached: scorer(64 * 2 ** 20), plain: scorer(0) };
  const score = async (scorer: Scorer) => {
    const candidates = Array.from({ length: CANDIDATES }, () => text(CANDIDATE));
    const request = { items: [{ prompt, candidates }], beta: 2, token_logprobs: false };
    const encoded = await encodeScore({ ...model, tokenizer: NUMBERS }, request, () => Promise.resolve());
    return (await Array.fromAsync(scorer.score(encoded))).flat()[0]!.usage;
  };
  await score(scorers.cached);
  await score(scorers.cached);
  const { cached_prompt_tokens } = await score(scorers.cached);
  const { cached, plain } = await contest(settings, {
    cached: workContender(() => score(scorers.cached)),
    plain: workContender(() => score(scorers.plain)),
  });
  for (const one of Object.values(scorers)) one.free();
  model.free();
  const millions = (model.parameters / 1e6).toFixed(1);
  return {
    name:
      `${CANDIDATES} new candidates of ${CANDIDATE} tokens under a repeated prompt of ${PROMPT}, beside no prompt cache`,
    value: medianRatio(cached, plain),
    unit: "of the time",
    shown: true,
    detail: `random Llama of ${millions} M parameters, ${cached_prompt_tokens} tokens of the prompt known; ${
      median(cached).toFixed(0)
    } and ${median(plain).toFixed(0)} ms, medians of ${settings.rounds} alternating rounds`,
  };
}

/** A text's words are its token ids. */
const NUMBERS: Tokenizer = {
  encode: (text) => text.split(" ").filter((word) => word !== "").map(Number),
  decode: (ids) => Array.from(ids).join(" "),
  token: (id) => ` ${id}`,
  bos: null,
  eos: [],
  eosId: null,
  addBos: false,
  vocabSize: SIZES.vocab_size,
  chatTemplate: null,
  specialPlaces: () => [],
  renderChat: () => "",
  withChatTemplate: () => NUMBERS,
};
