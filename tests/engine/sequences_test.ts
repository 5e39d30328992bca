/** Log-probs of whole sequences: against the reference in float64, against scores, in batches; what is refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type ScoredSequence, type SequenceRequest, stream } from "../../src/engine/protocol.ts";
import { InputError } from "../../src/errors.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { packGroups } from "../../src/preference/pack.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { random } from "../helpers/random.ts";
import { decoderForward } from "../reference/cpu.ts";
import { readReference, readWeights, VALUES } from "../reference/values.ts";
import { Lab } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

function sequences(
  prompts: SequenceRequest["prompts"],
  options: Partial<SequenceRequest> = {},
): Promise<ScoredSequence[]> {
  const settings = { add_special_tokens: true, max_tokens: 1, prompt_logprobs: true } as const;
  const request = { model: lab.model, adapter: null, quantization: null, ...settings };
  return Array.fromAsync(stream(lab.engine, "sequences", { ...request, ...options, prompts }));
}

for (const name of ["tied", "grouped", "odd"] as const) {
  Deno.test(`scoreSequences() of ${name} gives log-probs and likeliest tokens as float64 does`, async () => {
    const folder = lab.path(name);
    await Deno.mkdir(folder);
    for (const file of ["config.json", "model.safetensors"]) {
      await Deno.copyFile(join(VALUES, name, "model", file), join(folder, file));
    }
    // what the ids mean is of no concern here
    await Deno.copyFile(join(lab.model, "tokenizer.json"), join(folder, "tokenizer.json"));
    const { pairs, full, rotary_frequencies } = await readReference(name);
    const prompts = pairs.flatMap(({ prompt, chosen, rejected }) =>
      [chosen, rejected].map((r) => [...prompt, ...r])
    );
    const scored = await sequences(prompts, { model: folder });
    const decoder = {
      config: await readModelConfig(folder),
      weights: await readWeights(name),
      frequencies: rotary_frequencies,
    };
    for (const [i, { token_ids, token_logprobs, likeliest }] of scored.entries()) {
      assert.deepEqual(token_ids, prompts[i]);
      const expected = full.token_logprobs[i]!;
      assertClose(token_logprobs.slice(-expected.length), expected, { rtol: 0, atol: 1e-4 });

      const response = {
        tokens: Uint32Array.from(token_ids),
        scored_from: 1,
        truncated: false,
        predicts_next: true,
      };
      const prompt = new Uint32Array();
      const batch = packGroups([{ row: 1, prompt, responses: [response], prompt_truncated: 0 }]);
      const { head: { logprobs, logits, lse } } = decoderForward(decoder, batch);
      assertClose(token_logprobs, logprobs.slice(0, -1), { rtol: 0, atol: 1e-4 });
      const vocabulary = decoder.config.vocab_size;
      assert.equal(likeliest.length, token_ids.length);
      for (const [row, { id, logprob }] of likeliest.entries()) {
        const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
        const largest = Math.max(...own);
        assert.equal(id, own.indexOf(largest), `row ${row}`);
        assertClose([logprob], [largest - lse[row]!], { rtol: 0, atol: 1e-4 });
      }
    }
  });
}

Deno.test("scoreSequences() gives a response the log-probs that score() gives it", async () => {
  const [prompt, response] = ["out in the", " thin sand"];
  const [item] = await lab.score([{ prompt, candidates: [response] }], { token_logprobs: true });
  const { tokens, token_logprobs } = item!.results[0]!;
  const [sequence] = await sequences([`${prompt}${response}<|end|>`]);
  assert.equal(sequence!.text, `${prompt}${response}<|end|>`);
  assert.equal(sequence!.tokens.join(""), `<|begin|>${prompt}${response}<|end|>`);
  assert.deepEqual(sequence!.tokens.slice(-tokens!.length), tokens);
  assertClose(sequence!.token_logprobs.slice(-tokens!.length), token_logprobs!, { rtol: 1e-5 });
});

Deno.test("scoreSequences() of an adapter's model differs from the base", async () => {
  const { result } = await lab.train({ max_steps: 2, learning_rate: 0.05 });
  const [base, adapted] = [await sequences(["the bath"]), await sequences(["the bath"], { adapter: result })];
  assert.notDeepEqual(adapted[0]!.token_logprobs, base[0]!.token_logprobs);
  const item = { prompt: "the", candidates: [" bath"] };
  const [scored] = await lab.score([item], { adapter: result, token_logprobs: true });
  const own = scored!.results[0]!.token_logprobs!.slice(0, -1);
  assertClose(adapted[0]!.token_logprobs.slice(-own.length), own, { rtol: 1e-5 });
});

Deno.test("scoreSequences() gives many prompts in order, as it gives them alone", async () => {
  const source = random(3);
  const prompts = Array.from(
    { length: 60 },
    () => Array.from({ length: 1 + source.integer(90) }, () => source.integer(260)),
  );
  const together = await sequences(prompts);
  assert.deepEqual(together.map(({ token_ids }) => token_ids), prompts);
  for (const index of [0, 17, 59]) {
    const [alone] = await sequences([prompts[index]!]);
    const close = { rtol: 1e-5, atol: 1e-6 };
    assertClose(together[index]!.token_logprobs, alone!.token_logprobs, close);
    const logprobs = ({ likeliest }: ScoredSequence) => likeliest.map(({ logprob }) => logprob);
    assertClose(logprobs(together[index]!), logprobs(alone!), close);
    assert.deepEqual(together[index]!.likeliest.map(({ id }) => id), alone!.likeliest.map(({ id }) => id));
  }
});

Deno.test("scoreSequences() gives the likeliest token the same log-prob where it is the token itself", async () => {
  const [first] = await sequences(["the"]);
  const ids = [...first!.token_ids];
  for (let i = 0; i < 3; i++) ids.push((await sequences([ids]))[0]!.likeliest.at(-1)!.id);
  const [{ token_logprobs, likeliest }] = await sequences([ids]) as [ScoredSequence];
  for (let i = ids.length - 4; i < ids.length - 1; i++) {
    assert.equal(likeliest[i]!.id, ids[i + 1]);
    assert.equal(likeliest[i]!.logprob, token_logprobs[i]);
  }
});

Deno.test("scoreSequences() puts BOS before texts once, and never before token ids", async () => {
  const { bos, encode } = await loadTokenizer(lab.model);
  const ids = async (prompt: string | number[], add_special_tokens = true) =>
    (await sequences([prompt], { add_special_tokens }))[0]!.token_ids;
  assert.deepEqual(await ids("the sand"), [bos, ...encode("the sand")]);
  assert.deepEqual(await ids("<|begin|>the sand"), [bos, ...encode("the sand")]);
  assert.deepEqual(await ids("the sand", false), encode("the sand"));
  assert.deepEqual(await ids([7, 8]), [7, 8]);
});

Deno.test("scoreSequences() takes a lone token: nothing to score, something to follow", async () => {
  const [sequence] = await sequences([[5]], { max_tokens: 0 });
  assert.deepEqual(sequence!.token_logprobs, []);
  assert.equal(sequence!.likeliest.length, 1);
});

Deno.test("scoreSequences() finds what follows a prompt alone, the same when the prompt comes again", async () => {
  const prompt = `${"the thin other hand ".repeat(4)}sand`;
  for (const text of [prompt, "a"]) {
    const [whole] = await sequences([text]);
    for (let i = 0; i < 3; i++) {
      const [next] = await sequences([text], { prompt_logprobs: false });
      assert.deepEqual(next!.token_ids, whole!.token_ids);
      assert.deepEqual(next!.token_logprobs, []);
      const [expected, actual] = [whole!.likeliest.at(-1)!, next!.likeliest];
      assert.deepEqual(actual.map(({ id }) => id), [expected.id]);
      assertClose([actual[0]!.logprob], [expected.logprob], { rtol: 1e-5 });
      const known = Math.floor((whole!.token_ids.length - 2) / 16) * 16;
      assert.equal(next!.cached_prompt_tokens, i === 2 && text === prompt ? known : 0);
    }
  }
});

Deno.test("scoreSequences() refuses what does not fit the model, naming the prompt", async () => {
  const ids = (count: number) => new Array(count).fill(7);
  const refused: [SequenceRequest["prompts"], 0 | 1, string, RegExp][] = [
    [
      [ids(3), ids(128)],
      1,
      "prompt[1]",
      /^prompt\[1\] has 128 tokens, but the model's context is 128, of which/,
    ],
    [[ids(129)], 0, "prompt[0]", /^prompt\[0\] has 129 tokens, but the model's context is 128\.$/],
    [["the ".repeat(200)], 1, "prompt[0]", /^prompt\[0\] has \d+ tokens, but/],
    [["a".repeat(20_000)], 1, "prompt[0]", /^prompt\[0\] has 20000 characters/],
    [
      [[1], [2, 267]],
      1,
      "prompt[1]",
      /^prompt\[1\] has the token id 267, but the model's vocabulary has 267 entries\.$/,
    ],
    [[[2 ** 32 + 1]], 1, "prompt[0]", /has the token id 4294967297/],
    [[""], 1, "prompt[0]", /^prompt\[0\] has no token\.$/],
  ];
  for (const [prompts, max_tokens, field, message] of refused) {
    await assert.rejects(
      sequences(prompts, { max_tokens, add_special_tokens: false }),
      (error) => {
        assert.ok(error instanceof InputError, String(error));
        assert.match(error.message, message);
        assert.deepEqual([error.field, error.status], [field, 422]);
        return true;
      },
    );
  }
  assert.equal((await sequences([ids(127)])).length, 1);
  assert.equal((await sequences([ids(128)], { max_tokens: 0 })).length, 1);
});
