import assert from "node:assert/strict";
import { join } from "node:path";
import type { ScoredItem, ScoreRequest } from "../../src/engine/protocol.ts";
import { Scheduler } from "../../src/engine/scheduler.ts";
import { InputError } from "../../src/errors.ts";
import { Gpu, type GpuOptions } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { loadDecoder } from "../../src/model/loading.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import type { EncodingModel } from "../../src/scoring/encode.ts";
import { encodeScore } from "../../src/scoring/encode_request.ts";
import { Scorer } from "../../src/scoring/scorer.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { random } from "../helpers/random.ts";
import { TINY_FAMILIES, type TinyModelOptions, writeTinyModel } from "../helpers/tiny_model.ts";

type Items = ScoreRequest["items"];

interface ScorerSettings extends Partial<GpuOptions> {
  readonly promptCacheBytes?: number;
  readonly makeRoom?: (scorer: Scorer) => boolean;
  /** Of the model, beside what a tiny one has. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly model?: TinyModelOptions;
}

type TextRequest = Pick<ScoreRequest, "items" | "beta" | "token_logprobs">;

/** What turns the texts of a scorer's tests into its tokens. */
const models = new WeakMap<Scorer, EncodingModel>();

/** Scores texts as the engine does. */
async function* scoreTexts(scorer: Scorer, request: TextRequest): AsyncGenerator<ScoredItem[]> {
  yield* scorer.score(await encodeScore(models.get(scorer)!, request, () => Promise.resolve()));
}

/** Gives `work` a scorer of a tiny model on a device of its own, and checks that nothing is left of it. */
async function withScorer<T>(
  settings: ScorerSettings,
  work: (scorer: Scorer, gpu: Gpu) => Promise<T>,
): Promise<T> {
  const { promptCacheBytes = 0, makeRoom = () => false, config: fields = {}, model: made, ...options } =
    settings;
  const directory = await Deno.makeTempDir();
  const model = await writeTinyModel(join(directory, "model"), { config: fields, ...made });
  const gpu = await Gpu.open({ device: "auto", ...options });
  const config = await readModelConfig(model);
  const tokenizer = await loadTokenizer(model);
  using checkpoint = await WeightFiles.open(model);
  const { decoder, free } = await loadDecoder(gpu, checkpoint, config, { trainable: false });
  const scorer: Scorer = new Scorer(gpu, decoder, {
    promptCacheBytes,
    makeRoom: () => makeRoom(scorer),
  });
  models.set(scorer, { config, tokenizer });
  try {
    return await work(scorer, gpu);
  } finally {
    scorer.free();
    free();
    assert.equal(gpu.memory.bytes, 0);
    gpu.close();
    await Deno.remove(directory, { recursive: true });
  }
}

async function scored(scorer: Scorer, items: Items): Promise<ScoredItem[]> {
  const request = { items, beta: 2, token_logprobs: true };
  return (await Array.fromAsync(scoreTexts(scorer, request))).flat();
}

/** Scores requests that come at one time as the engine does. @returns a promise of each one's items */
function together(scorer: Scorer, requests: readonly Items[]): Promise<ScoredItem[]>[] {
  const scheduler = new Scheduler();
  return requests.map((items, id) => {
    const { promise, resolve, reject } = Promise.withResolvers<ScoredItem[]>();
    const request = async function* (): AsyncGenerator<void> {
      const answer: ScoredItem[] = [];
      try {
        for await (const some of scoreTexts(scorer, { items, beta: 2, token_logprobs: true })) {
          answer.push(...some);
          yield;
        }
        resolve(answer);
      } catch (error) {
        reject(error);
      }
    };
    scheduler.add(id, request());
    return promise;
  });
}

/** Requests of random items. */
function randomRequests(count: number, mostItems: number): Items[] {
  const source = random(11);
  const text = (words: number) =>
    Array.from({ length: 1 + source.integer(words) }, () => ["the", "an", "out", "in"][source.integer(4)])
      .join(" ");
  const item = () => ({
    prompt: text(12),
    candidates: Array.from({ length: 1 + source.integer(4) }, () => ` ${text(8)}`),
  });
  return Array.from(
    { length: count },
    () => Array.from({ length: 1 + source.integer(mostItems) }, item),
  );
}

function assertSameItems(actual: readonly ScoredItem[], expected: readonly ScoredItem[]): void {
  assert.equal(actual.length, expected.length);
  const numbers = (items: readonly ScoredItem[]) =>
    items.flatMap(({ results }) => results.flatMap((one) => [one.average_logprob!, ...one.token_logprobs!]));
  assertClose(numbers(actual), numbers(expected), { rtol: 1e-6, atol: 1e-6 });
  const rest = (items: readonly ScoredItem[]) =>
    items.map(({ results, usage }) => ({
      usage: { ...usage, cached_prompt_tokens: 0 },
      results: results.map(({ index, tokens, num_tokens }) => ({ index, tokens, num_tokens })),
    }));
  assert.deepEqual(rest(actual), rest(expected));
}

const ITEMS = [
  { prompt: "the thin hand", candidates: [" in the bath", " out", " an other sand", " the win", " a tin"] },
  { prompt: "sand", candidates: [" ten", " win the"] },
];

Deno.test("Scorer takes batches that the device can bind, for the same scores", async () => {
  const expected = await withScorer({}, (scorer) => scored(scorer, ITEMS));
  const actual = await withScorer({ maxTensorBytes: 40 * 64 * 4 }, (scorer) => scored(scorer, ITEMS));
  assertSameItems(actual, expected);
});

Deno.test("Scorer refuses a candidate that the device cannot bind with its prompt, by name", async () => {
  const items = [ITEMS[1]!, { prompt: "the thin hand ".repeat(6), candidates: [" in", " out the bath"] }];
  const refused = withScorer({ maxTensorBytes: 40 * 64 * 4 }, (scorer) => scored(scorer, items));
  await assert.rejects(refused, (error) => {
    assert.ok(error instanceof InputError, String(error));
    assert.match(error.message, /^items\[1\]\.candidates\[0\] takes \d+ tokens with its prompt/);
    assert.equal(error.problem.accepted, "at most 40 tokens on this device");
    return true;
  });
});

Deno.test("Scorer serves requests that come together with shared batches, each as it is served alone", async () => {
  await withScorer({}, async (scorer) => {
    const requests = randomRequests(32, 3);
    const alone: ScoredItem[][] = [];
    for (const items of requests) alone.push(await scored(scorer, items));
    assert.equal(scorer.batches, 32);
    const answers = await Promise.all(together(scorer, requests));
    answers.forEach((items, r) => assertSameItems(items, alone[r]!));
    const tokens = alone.flat().reduce((sum, { usage }) => sum + usage.total_tokens, 0);
    const shared = scorer.batches - 32;
    assert.ok(shared <= Math.ceil(tokens / 1024), `${shared} batches for ${tokens} tokens`);
  });
});

Deno.test("Scorer fails the request that has a bad item, and no other of its batch", async () => {
  await withScorer({}, async (scorer) => {
    const good = randomRequests(6, 2);
    const expected: ScoredItem[][] = [];
    for (const items of good) expected.push(await scored(scorer, items));
    const bad = [ITEMS[0]!, { prompt: [1], candidates: [[2], [10_000]] }];
    const answers = together(scorer, [...good.slice(0, 3), bad, ...good.slice(3)]);
    const [refusal] = answers.splice(3, 1);
    await assert.rejects(refusal!, /^InputError: items\[1\]\.candidates\[1\] has the token id 10000/);
    (await Promise.all(answers)).forEach((items, r) => assertSameItems(items, expected[r]!));
  });
});

Deno.test("Scorer does not let a long request hold up a short one, before it or behind it", async () => {
  await withScorer({}, async (scorer) => {
    const [short] = randomRequests(1, 1);
    const long = Array.from({ length: 800 }, () => ITEMS[0]!);
    const clock = performance.now;
    performance.now = () => 0; // all are tokenised in one step, however slow the machine
    try {
      const requests = together(scorer, [short!, long, short!]);
      const ends = requests.map((request) => request.then(() => scorer.batches));
      const [before, whole, behind] = await Promise.all(ends);
      // all were in the first batch; the last one's end is seen in the turn after it, in which the long one runs a batch
      assert.deepEqual([before, behind], [1, 2]);
      assert.ok(whole! > 3, `${whole} batches`);
    } finally {
      performance.now = clock;
    }
  });
});

Deno.test("Scorer scores nothing more of a request that is given up", async () => {
  await withScorer({}, async (scorer) => {
    const [short] = randomRequests(1, 1);
    const long = Array.from({ length: 800 }, () => ITEMS[0]!);
    const given = scoreTexts(scorer, { items: long, beta: 2, token_logprobs: false });
    await given.next(); // tokenised
    while ((await given.next()).value.length === 0);
    await given.return(undefined);
    const before = scorer.batches;
    assert.equal((await scored(scorer, short!)).length, short!.length);
    assert.equal(scorer.batches, before + 1);
  });
});

Deno.test("Scorer takes smaller batches where the device has no room for one of all that wait", async () => {
  const requests = randomRequests(30, 4);
  const expected = await withScorer({}, async (scorer, gpu) => {
    const weights = gpu.memory.bytes;
    const alone = await scored(scorer, requests.flat());
    return { alone, weights, whole: gpu.memory.bytes, batches: scorer.batches };
  });
  const memoryLimitBytes = Math.floor((expected.weights + expected.whole) / 2);
  await withScorer({ memoryLimitBytes }, async (scorer) => {
    const answers = (await Promise.all(together(scorer, requests))).flat();
    assertSameItems(answers, expected.alone);
    assert.ok(scorer.batches > expected.batches);
  });
});

const { mistral, qwen3, gemma2, gpt2, phi3 } = TINY_FAMILIES;
const FAMILIES = { llama: { num_key_value_heads: 1 }, mistral, qwen3, gemma2, gpt2, phi3 };

const PROMPT_CACHE = 2 ** 20;
/** More than two blocks of tokens. */
const LONG = "the thin other hand in the bath, an other win in the sand, ten out in the other bath and ";
const candidates = [" the sand", " an out", " in"];

const devices: [name: string, settings: ScorerSettings][] = [
  ...Object.entries(FAMILIES).map(([family, config]): [string, ScorerSettings] => [family, { config }]),
  ["64 lanes a row, tiled matrices", { config: FAMILIES.llama, policy: { row_lanes: 64, matmul: "tiled" } }],
];
for (const [name, settings] of devices) {
  Deno.test(`Scorer gives a repeated prompt the scores that it has alone: ${name}`, async () => {
    const items = ["the", "an", "the", "thin"].map((end) => ({ prompt: LONG + end, candidates }));
    const expected = await withScorer(settings, (scorer) => scored(scorer, items));
    await withScorer({ ...settings, promptCacheBytes: PROMPT_CACHE }, async (scorer, gpu) => {
      const cached = ({ usage }: ScoredItem) => usage.cached_prompt_tokens;
      const turns: ScoredItem[][] = [];
      // alone, so that nothing is known; then so that they know each other's beginning; then from before
      turns.push(await scored(scorer, items.slice(0, 1)));
      assert.equal(gpu.memory.byName()["prompts.k"], undefined);
      for (let i = 0; i < 3; i++) turns.push(await scored(scorer, items));
      for (const answers of turns) assertSameItems(answers, expected.slice(0, answers.length));
      const prompts = expected.map(({ usage }) => usage.prompt_tokens);
      const [first, together, again] = turns.map((answers) => answers.map(cached));
      assert.deepEqual(first, [0]);
      assert.equal(together![0], 0);
      for (const known of [...together!.slice(1), ...again!]) {
        assert.ok(known >= 32 && known % 16 === 0, `${known}`);
      }
      for (const [i, known] of again!.entries()) assert.ok(known < prompts[i]!);
    });
  });
}

Deno.test("Scorer knows nothing of prompts whose angles depend on what follows them", async () => {
  const config = TINY_FAMILIES["phi3 of long and short sequences"];
  await withScorer({ config, promptCacheBytes: PROMPT_CACHE }, async (scorer) => {
    const items = [1, 2, 3].map(() => ({ prompt: LONG, candidates }));
    assert.deepEqual((await scored(scorer, items)).map(({ usage }) => usage.cached_prompt_tokens), [0, 0, 0]);
  });
});

Deno.test("Scorer lets prompts go where their room is needed, between batches and within one", async () => {
  const items = [1, 2, 3].map((i) => ({ prompt: `${LONG}${i}`, candidates }));
  const expected = await withScorer({}, (scorer) => scored(scorer, items));
  const options = { promptCacheBytes: PROMPT_CACHE, makeRoom: (scorer: Scorer) => scorer.shrink() };
  await withScorer(options, async (scorer, gpu) => {
    for (let i = 0; i < 2; i++) assertSameItems(await scored(scorer, items), expected);
    const held = () => gpu.memory.byName()["prompts.k"] ?? 0;
    assert.ok(held() > 0);
    assert.equal(scorer.shrink(), true);
    assert.equal(held(), 0);
    assert.equal(scorer.shrink(), false);
    for (let i = 0; i < 2; i++) assertSameItems(await scored(scorer, items), expected);
    // while the batch that counts on them is made ready
    const { device } = gpu;
    const work = device.queue.onSubmittedWorkDone.bind(device.queue);
    device.queue.onSubmittedWorkDone = () => {
      scorer.shrink();
      return work();
    };
    const more = Array.from({ length: 40 }, () => items).flat();
    const answers = await scored(scorer, more);
    assertSameItems(answers, more.map((_, i) => expected[i % 3]!));
  });
});

Deno.test("Scorer goes without known prompts where the device has no room for them", async () => {
  const items = [1, 2, 3].map((i) => ({ prompt: `${LONG}${i}`, candidates }));
  const expected = await withScorer({}, async (scorer, gpu) => {
    const answers = await scored(scorer, items);
    return { answers, bytes: gpu.memory.bytes };
  });
  const options = { promptCacheBytes: 2 ** 26, memoryLimitBytes: 2 * expected.bytes };
  await withScorer(options, async (scorer) => {
    for (let i = 0; i < 3; i++) {
      const answers = await scored(scorer, items);
      assertSameItems(answers, expected.answers);
      assert.deepEqual(answers.map(({ usage }) => usage.cached_prompt_tokens), [0, 0, 0]);
    }
  });
});

Deno.test("Scorer goes without known prompts where the device has no room for a batch that knows some", async () => {
  const items = [{ prompt: LONG, candidates }];
  const expected = await withScorer({}, async (scorer, gpu) => {
    const answers = await scored(scorer, items);
    return { answers, bytes: gpu.memory.peak };
  });
  const options = { promptCacheBytes: PROMPT_CACHE, memoryLimitBytes: expected.bytes };
  await withScorer(options, async (scorer) => {
    for (let i = 0; i < 4; i++) {
      const answers = await scored(scorer, items);
      assertSameItems(answers, expected.answers);
      assert.equal(answers[0]!.usage.cached_prompt_tokens, 0);
    }
  });
});

Deno.test("Scorer does not try for known prompts again and again where there was no room", async () => {
  const items = [{ prompt: LONG, candidates }];
  const bytes = await withScorer({}, async (scorer, gpu) => {
    await scored(scorer, items);
    return gpu.memory.peak;
  });
  await withScorer({ promptCacheBytes: PROMPT_CACHE, memoryLimitBytes: bytes }, async (scorer, gpu) => {
    const allocate = gpu.allocate.bind(gpu);
    let passes = 0;
    gpu.allocate = (make) => {
      passes++;
      return allocate(make);
    };
    for (let i = 0; i < 2; i++) await scored(scorer, items);
    const tried = passes;
    assert.ok(tried > 1, "known prompts were never tried");
    for (let i = 0; i < 6; i++) await scored(scorer, items);
    assert.equal(passes, tried);
  });
});

Deno.test("Scorer scores a large prompt where the device has no room for more than its own size", async () => {
  const items = [{ prompt: "the thin hand ".repeat(36), candidates: [" in the bath"] }];
  const config = { max_position_embeddings: 512 };
  const expected = await withScorer({ config }, async (scorer, gpu) => {
    const weights = gpu.memory.bytes;
    const answers = await scored(scorer, items);
    return { answers, weights, buffers: gpu.memory.peak - weights };
  });
  const tokens = expected.answers[0]!.usage.total_tokens;
  assert.ok(tokens > 256 && tokens < 384, `${tokens} tokens, rounded up to 512`);
  const memoryLimitBytes = expected.weights + Math.ceil(expected.buffers * 0.85);
  await withScorer({ config, memoryLimitBytes }, async (scorer) => {
    assertSameItems(await scored(scorer, items), expected.answers);
  });
});

/** A model that keeps a channel for the letter z, and whose first block makes infinite values of it. */
const OVERFLOWING: TinyModelOptions = {
  tied: false,
  change: (name, values) => {
    const width = 32;
    const z = "z".charCodeAt(0) * width;
    const channel = (value: number) => {
      for (let row = 0; row < values.length; row += width) values[row] = value;
    };
    if (name.includes("embed_tokens")) {
      channel(0);
      values.fill(0, z, z + width);
      values[z] = 1;
    }
    if (/o_proj|down_proj/.test(name)) values.fill(0, 0, values.length / width);
    if (/layers\.0\..*v_proj/.test(name)) channel(3e38);
  },
};

for (
  const [name, settings] of [["rows by subgroups", {}], ["tiles", {
    policy: { row_lanes: 64, matmul: "tiled" },
  }]] as const
) {
  Deno.test(`Scorer keeps a prompt whose values overflow from spoiling others in its batch: ${name}`, async () => {
    const model = { ...settings, model: OVERFLOWING };
    const good: Items = [{ prompt: LONG, candidates }, { prompt: "sand", candidates }];
    const bad: Items = [{ prompt: "a z", candidates: [" in"] }];
    const expected = await withScorer(model, (scorer) => scored(scorer, good));
    await withScorer({ ...model, promptCacheBytes: PROMPT_CACHE }, async (scorer) => {
      for (let i = 0; i < 4; i++) {
        // in front of the first prompt that is kept
        const [spoilt, next, last] = together(scorer, [bad, good, good]);
        await assert.rejects(
          spoilt!,
          /^InputError: The model gives items\[0\]\.candidates\[0\] a log-prob of NaN/,
        );
        for (const answers of [next, last]) assertSameItems(await answers!, expected);
      }
    });
  });
}

Deno.test("encodeScore() tokenises a long request in several slices, so that others come in between", async () => {
  const directory = await Deno.makeTempDir();
  const folder = await writeTinyModel(join(directory, "model"), {});
  const model = { config: await readModelConfig(folder), tokenizer: await loadTokenizer(folder) };
  await Deno.remove(directory, { recursive: true });
  const clock = performance.now;
  let now = 0;
  performance.now = () => now += 20; // an item takes 20 ms, a slice 50
  try {
    const items = Array.from({ length: 30 }, (_, i) => ({ prompt: `the ${i}`, candidates: [" out"] }));
    let pauses = 0;
    const pause = () => {
      pauses++;
      return Promise.resolve();
    };
    await encodeScore(model, { items, beta: 2, token_logprobs: false }, pause);
    assert.ok(pauses >= 9, `${pauses} pauses`);
  } finally {
    performance.now = clock;
  }
});
