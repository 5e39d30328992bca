import { startEngine } from "../src/engine/client.ts";
import type { Gpu } from "../src/gpu/mod.ts";
import type { Tokenizer } from "../src/preference/tokenizer.ts";
import { Scorer } from "../src/scoring/scorer.ts";
import { Random } from "../src/training/random.ts";
import { randomModel, SIZES } from "./_model.ts";
import { alternate, type BenchRow, median, medianRatio } from "./_rows.ts";

const MODEL = decodeURIComponent(new URL("../examples/tiny-llama", import.meta.url).pathname);
const REQUESTS = 32;
const ROUNDS = 15;
const PROMPT = 512;
const CANDIDATES = 4;
const CANDIDATE = 32;

/** Requests that come at one time, and prompts that come again. */
export async function benchScoring(gpu: Gpu): Promise<BenchRow[]> {
  return [await concurrentRequests(gpu), await repeatedPrompt(gpu)];
}

/** Many small requests at one time beside one after another. */
async function concurrentRequests(gpu: Gpu): Promise<BenchRow> {
  const device = gpu.software ? "software" : "gpu";
  const engine = await startEngine({ device, allowSoftware: gpu.software, promptCacheBytes: 0 });
  const requests = Array.from({ length: REQUESTS }, (_, i) => i);
  const one = (i: number) =>
    Array.fromAsync(engine.score({
      model: MODEL,
      adapter: null,
      quantization: null,
      beta: 2,
      token_logprobs: false,
      items: [{ prompt: `Which is larger, ${i} or 74?`, candidates: [" It is 74.", ` It is ${i}.`] }],
    }));
  const { serial, together } = await alternate(ROUNDS, {
    serial: async () => {
      for (const i of requests) await one(i);
    },
    together: () => Promise.all(requests.map(one)),
  });
  await engine.stop();
  return {
    name: `${REQUESTS} requests of one item at one time beside one after another`,
    value: medianRatio(together, serial),
    unit: "of the time",
    detail: `examples/tiny-llama, two candidates each; ${median(together).toFixed(0)} and ${
      median(serial).toFixed(0)
    } ms, medians of ${ROUNDS} alternating rounds`,
  };
}

/** New candidates under a prompt that has come before, beside the same without the prompt cache. */
async function repeatedPrompt(gpu: Gpu): Promise<BenchRow> {
  const model = await randomModel(gpu, SIZES, "nothing");
  const random = new Random(7);
  const text = (tokens: number) =>
    Array.from({ length: tokens }, () => ` ${Math.floor(random.next() * SIZES.vocab_size)}`).join("");
  const prompt = text(PROMPT);
  const scorer = (promptCacheBytes: number) =>
    new Scorer(gpu, { ...model, tokenizer: NUMBERS }, { promptCacheBytes, makeRoom: () => false });
  const scorers = { cached: scorer(64 * 2 ** 20), plain: scorer(0) };
  const score = async (scorer: Scorer) => {
    const candidates = Array.from({ length: CANDIDATES }, () => text(CANDIDATE));
    const request = { items: [{ prompt, candidates }], beta: 2, token_logprobs: false };
    return (await Array.fromAsync(scorer.score(request))).flat()[0]!.usage;
  };
  await score(scorers.cached);
  await score(scorers.cached);
  const { cached_prompt_tokens } = await score(scorers.cached);
  const { cached, plain } = await alternate(ROUNDS, {
    cached: () => score(scorers.cached),
    plain: () => score(scorers.plain),
  });
  for (const one of Object.values(scorers)) one.free();
  model.free();
  return {
    name: `${CANDIDATES} new candidates of ${CANDIDATE} tokens under a repeated prompt of ${PROMPT}`,
    value: medianRatio(cached, plain),
    unit: "of the time without the prompt cache",
    detail: `random Llama of ${
      (model.parameters / 1e6).toFixed(1)
    } M parameters, ${cached_prompt_tokens} prompt tokens known; ${median(cached).toFixed(0)} and ${
      median(plain).toFixed(0)
    } ms, medians of ${ROUNDS} alternating rounds`,
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
  renderChat: () => "",
  withChatTemplate: () => NUMBERS,
};
