import assert from "node:assert/strict";
import { join } from "node:path";
import type { ScoredItem, ScoreRequest } from "../../src/engine/protocol.ts";
import { InputError } from "../../src/errors.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { loadDecoder } from "../../src/model/decoder.ts";
import { Checkpoint } from "../../src/model/safetensors.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { Scorer } from "../../src/scoring/scorer.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

/** Scores with a tiny model on a device whose tensors may have so many bytes. */
async function score(maxTensorBytes: number, items: ScoreRequest["items"]): Promise<ScoredItem[]> {
  const directory = await Deno.makeTempDir();
  const model = await writeTinyModel(join(directory, "model"));
  const gpu = await Gpu.open({ device: "auto", maxTensorBytes });
  const config = await readModelConfig(model);
  const tokenizer = await loadTokenizer(model);
  using checkpoint = await Checkpoint.open(model);
  const { decoder, free } = await loadDecoder(gpu, checkpoint, config, { trainable: false });
  const scorer = new Scorer(gpu, { config, tokenizer, decoder }, () => false);
  try {
    const scored: ScoredItem[] = [];
    for await (const some of scorer.score({ items, beta: 2, token_logprobs: false })) scored.push(...some);
    return scored;
  } finally {
    scorer.free();
    free();
    assert.equal(gpu.memory.bytes, 0);
    gpu.close();
    await Deno.remove(directory, { recursive: true });
  }
}

const ITEMS = [
  { prompt: "the thin hand", candidates: [" in the bath", " out", " an other sand", " the win", " a tin"] },
  { prompt: "sand", candidates: [" ten", " win the"] },
];

Deno.test("Scorer takes batches that the device can bind, for the same scores", async () => {
  const [expected, actual] = [await score(2 ** 24, ITEMS), await score(40 * 64 * 4, ITEMS)];
  for (const [i, item] of expected.entries()) {
    const averages = ({ results }: ScoredItem) => results.map(({ average_logprob }) => average_logprob);
    assertClose(averages(actual[i]!), averages(item), { rtol: 1e-5 });
    assert.equal(actual[i]!.best, item.best);
  }
});

Deno.test("Scorer refuses a candidate that the device cannot bind with its prompt, by name", async () => {
  const items = [ITEMS[1]!, { prompt: "the thin hand ".repeat(6), candidates: [" in", " out the bath"] }];
  await assert.rejects(score(40 * 64 * 4, items), (error) => {
    assert.ok(error instanceof InputError, String(error));
    assert.match(error.message, /^items\[1\]\.candidates\[0\] takes \d+ tokens with its prompt/);
    assert.equal(error.problem.accepted, "at most 40 tokens on this device");
    return true;
  });
});
