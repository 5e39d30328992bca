/** Ranking candidates: order, batches, what is refused, and models that change on the disk. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type ScoredItem, type ScoreRequest, stream } from "../../src/engine/protocol.ts";
import { InputError } from "../../src/errors.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { random } from "../helpers/random.ts";
import { chatRows, plainRows } from "../helpers/tiny_model.ts";
import { itemOf, Lab, logprobsOf } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

const averagesOf = (item: ScoredItem) => logprobsOf([item]);

function inputError(field: string, message: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof InputError, String(error));
    assert.match(error.message, message);
    assert.equal(error.field, field);
    return true;
  };
}

Deno.test("score() ranks the candidates of an item in their order", async () => {
  const candidates = [" hand", " the thin other sand", " ten", " hand"];
  const [item] = await lab.score([{ prompt: "out in the", candidates }], { beta: 2.5, token_logprobs: true });
  const { results, best, margin, usage } = item!;
  assert.deepEqual(results.map(({ index }) => index), [0, 1, 2, 3]);
  const order = [0, 1, 2, 3].sort((a, b) => averagesOf(item!)[b]! - averagesOf(item!)[a]! || a - b);
  assert.deepEqual(order.map((index) => results[index]!.rank), [1, 2, 3, 4]);
  assert.equal(best, order[0]);
  assert.equal(margin, averagesOf(item!)[order[0]!]! - averagesOf(item!)[order[1]!]!);
  assert.deepEqual(averagesOf(item!)[3], averagesOf(item!)[0], "equal candidates score equally");
  assert.ok(results[0]!.rank! < results[3]!.rank!, "a tie keeps the request's order");
  for (const [i, result] of results.entries()) {
    const { average_logprob, sum_logprob, num_tokens, reward, tokens, token_logprobs } = result;
    assert.equal(tokens!.join(""), `${candidates[i]}<|end|>`);
    assert.equal(tokens!.length, num_tokens);
    const sum = token_logprobs!.reduce((a, b) => a + b, 0);
    assertClose([sum_logprob!, average_logprob!], [sum, sum / num_tokens], {
      rtol: 1e-5,
      relativeTo: "element",
    });
    assert.equal(reward, 2.5 * average_logprob!);
    assert.ok(token_logprobs!.every((logprob) => logprob < 0));
  }
  assert.equal(usage.candidate_tokens, results.reduce((sum, { num_tokens }) => sum + num_tokens, 0));
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.candidate_tokens);
});

Deno.test("score() of one candidate has no margin, and no tokens unless asked for", async () => {
  const [item] = await lab.score([{ prompt: "a", candidates: ["b"] }]);
  assert.equal(item!.margin, null);
  assert.equal(item!.best, 0);
  assert.ok(!("tokens" in item!.results[0]!) && !("token_logprobs" in item!.results[0]!));
});

Deno.test("score() gives items and candidates in order over many batches, as it scores them alone", async () => {
  const source = random(5);
  const text = (words: number) =>
    Array.from({ length: 1 + source.integer(words) }, () => ["the", "an", "out", "in"][source.integer(4)])
      .join(" ");
  // about three of the largest batches of any device, of them one item alone takes more than one
  const items = Array.from({ length: 60 }, (_, i) => ({
    prompt: i % 3 === 0 ? [{ role: "user", content: text(20) }] : text(20),
    candidates: Array.from({ length: i === 7 ? 900 : 1 + source.integer(8) }, () => text(12)),
  }));
  const together = await lab.score(items);
  assert.equal(together.length, items.length);
  for (const i of [0, 1, 6, 7, 8, 30, 59]) {
    const { results } = together[i]!;
    assert.deepEqual(results.map(({ index }) => index), items[i]!.candidates.map((_, index) => index));
    assert.deepEqual(
      results.map(({ rank }) => rank!).sort((a, b) => a - b),
      items[i]!.candidates.map((_, index) => index + 1),
    );
    const some = [0, items[i]!.candidates.length - 1];
    const alone = await lab.score(
      some.map((c) => ({ ...items[i]!, candidates: [items[i]!.candidates[c]!] })),
    );
    assertClose(some.map((c) => averagesOf(together[i]!)[c]!), alone.flatMap(averagesOf), {
      rtol: 1e-5,
      relativeTo: "element",
      name: `item ${i}`,
    });
  }
});

Deno.test("score() yields an item as soon as it is scored, and lets others in before the next ones", async () => {
  const items = Array.from({ length: 20 }, () => ({
    prompt: "the",
    candidates: Array.from({ length: 700 }, (_, i) => ` other ${i}`),
  }));
  const request: ScoreRequest = {
    model: lab.model,
    adapter: null,
    quantization: null,
    beta: 1,
    token_logprobs: false,
    items,
  };
  let seen = 0;
  let answered = false;
  for await (const { results } of stream(lab.engine, "score", request)) {
    assert.equal(results.length, 700);
    if (++seen === 1) void lab.score([itemOf(plainRows(1)[0]!)]).then(() => answered = true);
    if (answered) break;
  }
  assert.ok(answered && seen < items.length, `${seen} items`);
});

Deno.test("score() serves callers in turns", async () => {
  const many = Array.from({ length: 150 }, (_, i) => ({
    prompt: `the ${i}`,
    candidates: Array.from({ length: 20 }, (_, j) => ` other ${j}`),
  }));
  const order: string[] = [];
  await Promise.all([
    lab.score(many).then(() => order.push("many")),
    lab.score([itemOf(plainRows(1)[0]!)]).then(() => order.push("one")),
  ]);
  assert.deepEqual(order, ["one", "many"]);
});

Deno.test("score() and scoreSequences() at one time answer each caller as they do alone", async () => {
  const items = Array.from(
    { length: 12 },
    (_, i) => ({ prompt: `the ${i}`, candidates: [" out", ` in ${i}`] }),
  );
  const settings = { add_special_tokens: true, max_tokens: 1, prompt_logprobs: true } as const;
  const request = { model: lab.model, adapter: null, quantization: null, ...settings };
  const sequence = async (i: number) => {
    const [one] = await Array.fromAsync(
      stream(lab.engine, "sequences", { ...request, prompts: [`the sand ${i}`] }),
    );
    return [...one!.token_logprobs, ...one!.likeliest.map(({ logprob }) => logprob)];
  };
  const item = async (i: number) => averagesOf((await lab.score([items[i]!]))[0]!);
  const alone: number[][] = [];
  for (const i of items.keys()) alone.push(await item(i), await sequence(i));
  const together = await Promise.all([...items.keys()].flatMap((i) => [item(i), sequence(i)]));
  assertClose(together.flat(), alone.flat(), { rtol: 1e-6, atol: 1e-6 });
});

Deno.test("score() cuts a prompt to the context and says so, never a candidate", async () => {
  const prompt = "the thin hand ".repeat(40);
  const [item] = await lab.score([{ prompt, candidates: [" out", " in the sand"] }], {
    token_logprobs: true,
  });
  assert.deepEqual(item!.results.map(({ truncated }) => truncated), [true, true]);
  assert.deepEqual(item!.results.map(({ tokens }) => tokens!.join("")), [
    " out<|end|>",
    " in the sand<|end|>",
  ]);
  // BOS and as many of the prompt's last tokens as leave room for the longest candidate in a context of 128
  const longest = Math.max(...item!.results.map(({ num_tokens }) => num_tokens));
  assert.equal(item!.usage.prompt_tokens, 128 - longest);
  const [conversation] = await lab.score([{
    prompt: [{ role: "user", content: prompt }],
    candidates: [[{ role: "assistant", content: "out" }]],
  }]);
  assert.equal(conversation!.results[0]!.truncated, true);
  const [whole] = await lab.score([{ prompt: "the", candidates: ["x".repeat(126)] }]);
  assert.deepEqual([whole!.results[0]!.num_tokens, whole!.results[0]!.truncated], [127, true]);
});

const item = itemOf(plainRows(1)[0]!);
const refusals: [name: string, items: ScoreRequest["items"], field: string, message: RegExp][] = [
  [
    "a prompt of a hundred times the context",
    [item, { prompt: "a".repeat(12_801), candidates: ["b"] }],
    "items[1].prompt",
    /^items\[1\]\.prompt has 12801 characters; the model's context is 128 tokens\.$/,
  ],
  [
    "token ids past the vocabulary in a prompt",
    [item, { prompt: [1, 267], candidates: [[5]] }],
    "items[1].prompt",
    /^items\[1\]\.prompt has the token id 267, but the model's vocabulary has 267 entries\.$/,
  ],
  [
    "token ids past the vocabulary in a candidate",
    [item, { prompt: [1], candidates: [[5], [2 ** 32 - 1]] }],
    "items[1].candidates[1]",
    /^items\[1\]\.candidates\[1\] has the token id 4294967295, but the model's vocabulary has 267 entries\.$/,
  ],
];
for (const [name, items, field, message] of refusals) {
  Deno.test(`score() refuses ${name}, and serves the next request`, async () => {
    await assert.rejects(lab.score(items), inputError(field, message));
    assert.equal((await lab.score([item])).length, 1);
  });
}

Deno.test("score() refuses turns where the model has no chat template", async () => {
  const model = await lab.writeModel("no-template");
  await Deno.writeTextFile(join(model, "tokenizer_config.json"), `{"bos_token": "<|begin|>"}`);
  await assert.rejects(
    lab.score([item, itemOf(chatRows(1)[0]!)], { model }),
    inputError("items[1].prompt", /chat template/),
  );
  assert.equal((await lab.score([item], { model })).length, 1);
});

Deno.test("score() loads a model anew whose files have changed", async () => {
  const model = await lab.writeModel("changing");
  const run = async () => averagesOf((await lab.score([itemOf(chatRows(1)[0]!)], { model }))[0]!);
  const first = await run();
  assert.deepEqual(await run(), first);
  await lab.writeModel("changing", { seed: 2 });
  const second = await run();
  assert.notDeepEqual(second, first);
  // the template lies in a file of its own
  await Deno.writeTextFile(
    join(model, "chat_template.jinja"),
    "{% for m in messages %}{{ m.content }}{% endfor %}",
  );
  const third = await run();
  assert.notDeepEqual(third, second);
  await Deno.remove(join(model, "chat_template.jinja"));
  assert.deepEqual(await run(), second);
});

Deno.test("score() loads an adapter anew whose files have changed", async () => {
  const adapter = lab.path("adapter");
  const use = async (seed: number) => {
    const { result } = await lab.train({ max_steps: 2, seed });
    await Deno.remove(adapter, { recursive: true }).catch(() => {});
    await Deno.rename(result, adapter);
    return averagesOf((await lab.score([item], { adapter }))[0]!);
  };
  const first = await use(1);
  assert.notDeepEqual(await use(2), first);
  const scale = JSON.parse(await Deno.readTextFile(join(adapter, "adapter_config.json")));
  const before = averagesOf((await lab.score([item], { adapter }))[0]!);
  await Deno.writeTextFile(
    join(adapter, "adapter_config.json"),
    JSON.stringify({ ...scale, lora_alpha: 100 }),
  );
  assert.notDeepEqual(averagesOf((await lab.score([item], { adapter }))[0]!), before);
});

Deno.test("score() knows a prompt that came before under the same weights only", async () => {
  const adapter = lab.path("rewritten");
  const repeated = { prompt: "the thin other hand in the other sand", candidates: [" out", " in the bath"] };
  const rewrite = async (seed: number) => {
    const { result } = await lab.train({ max_steps: 2, seed });
    await Deno.remove(adapter, { recursive: true }).catch(() => {});
    await Deno.rename(result, adapter);
  };
  const use = async (adapter: string | null) => (await lab.score([repeated], { adapter }))[0]!;
  const known = async (adapter: string | null) => (await use(adapter)).usage.cached_prompt_tokens;
  await rewrite(1);
  assert.deepEqual([await known(adapter), await known(adapter), await known(adapter)], [0, 0, 16]);
  assert.deepEqual([await known(null), await known(null), await known(null)], [0, 0, 16]);
  const old = averagesOf(await use(adapter));
  await rewrite(2);
  assert.equal(await known(adapter), 0);
  assert.notDeepEqual(averagesOf(await use(adapter)), old);
});
