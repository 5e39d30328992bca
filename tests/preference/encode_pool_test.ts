import fc from "fast-check";
import assert from "node:assert/strict";
import { encodeBatch, inBatches } from "../../src/preference/encode_batch.ts";
import { type EncodeJob, EncodePool } from "../../src/preference/encode_pool.ts";
import type { Comparison } from "../../src/preference/rows.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { VALUES } from "../reference/values.ts";

const job: EncodeJob = {
  model: `${VALUES}/tokens/llama3`,
  chat_template: null,
  settings: { max_length: 40, max_prompt_length: 16, truncation_mode: "keep_end", prompt_boundary: "trl" },
  vocabulary: 100_000,
};
const tokenizer = await loadTokenizer(job.model);

async function batchesOf(comparisons: Comparison[]): Promise<Comparison[][]> {
  return await Array.fromAsync(inBatches(ReadableStream.from(comparisons)));
}

const word = fc.constantFrom("a", "longer", " ", "\n", "\u00fc", "\u{1f600}", "<|eot_id|>", "7 ");
const plain = fc.array(word, { maxLength: 40 }).map((words) => words.join(""));
const text = fc.oneof(plain, plain.map((content) => [{ role: "user", content }]));
const comparison = fc.record({
  row: fc.nat(),
  prompt: text,
  responses: fc.array(text, { minLength: 1, maxLength: 3 }),
});

for (const size of [1, 2, 3]) {
  Deno.test(`EncodePool.encode() gives what encodeBatch() gives, with ${size} Workers`, async () => {
    using pool = new EncodePool(job, { size });
    await pool.start();
    const lists = fc.array(fc.array(comparison, { maxLength: 5 }), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(lists, async (batches) => {
        const encoded = await Promise.all(batches.map((batch) => pool.encode(batch)));
        assert.deepEqual(
          encoded,
          batches.map((batch) => encodeBatch(tokenizer, batch, job.settings, job.vocabulary)),
        );
      }),
      { numRuns: 50 },
    );
  });
}

Deno.test("EncodePool.encode() takes the job's chat template and refuses what encodeBatch() refuses", async () => {
  const asked = {
    ...job,
    chat_template: "{{ lead }}{{ messages[0].content }}{{ raise_exception('no') if messages[1] }}",
    settings: { ...job.settings, chat_template_kwargs: { lead: "hm " } },
  };
  using pool = new EncodePool(asked, { size: 1 });
  await pool.start();
  const prompt = [{ role: "user", content: "q" }];
  const templated = tokenizer.withChatTemplate(asked.chat_template);
  const batches = [
    [{ row: 1, prompt: "p", responses: ["r"] }, { row: 2, prompt, responses: ["r"] }],
    [{ row: 3, prompt, responses: [] }],
    [{ row: 4, prompt: "", responses: [prompt] }],
  ];
  const reasons: (string | undefined)[] = [];
  for (const batch of batches) {
    const found = await pool.encode(batch);
    assert.deepEqual(found, encodeBatch(templated, batch, asked.settings, job.vocabulary));
    reasons.push(found?.left_out[0]?.reason);
  }
  assert.deepEqual(reasons.map((reason) => reason?.slice(0, 33)), [
    "The chat template refuses the mes",
    "has no response.",
    undefined,
  ]);
  const { groups: [written] } = await pool.encode(batches[2]!)!;
  assert.match(tokenizer.decode(written!.responses[0]!.tokens), /^hm q/);
  using strict = new EncodePool({ ...asked, vocabulary: 3 }, { size: 1 });
  await strict.start();
  const beyond = { name: "InputError", message: /^Row 4 has the token id/ };
  await assert.rejects(strict.encode(batches[2]!)!, beyond);
});

Deno.test("EncodePool leaves small data sets to its owner and starts once", async () => {
  let starts = 0;
  using pool = new EncodePool(job, { size: 2, after: 6, onStart: () => starts++ });
  const batch = [{ row: 1, prompt: "p", responses: ["r"] }];
  for (let i = 0; i < 3; i++) assert.equal(pool.encode(batch), null);
  assert.deepEqual([starts, pool.depth], [0, 1]);
  assert.equal(pool.encode(batch), null);
  await pool.start();
  assert.deepEqual([starts, pool.depth], [1, 4]);
  assert.equal((await pool.encode(batch))?.groups.length, 1);
});

Deno.test("EncodePool tells whoever waits that a Worker has broken, and whoever comes after", async () => {
  using pool = new EncodePool({ ...job, model: "no/such/folder" }, { size: 2 });
  await assert.rejects(pool.start(), /^Error: A thread that makes tokens broke: .*no tokenizer\.json/);
  await assert.rejects(pool.encode([])!, /broke/);
});

Deno.test("inBatches() keeps the order, ends a batch by rows or characters, and tells an error after what was before it", async () => {
  const short = Array.from({ length: 150 }, (_, i) => ({ row: i + 1, prompt: "p", responses: ["r"] }));
  const batches = await batchesOf(short);
  assert.deepEqual(batches.map(({ length }) => length), [64, 64, 22]);
  assert.deepEqual(batches.flat(), short);

  const long = short.slice(0, 5).map((row) => ({
    ...row,
    prompt: [{ role: "user", content: "x".repeat(60_000) }],
  }));
  assert.deepEqual((await batchesOf(long)).map(({ length }) => length), [3, 2]);
  assert.deepEqual(await batchesOf([]), []);

  const failing = inBatches((async function* () {
    yield* short.slice(0, 70);
    throw new Error("row 71");
  })());
  assert.equal((await failing.next()).value?.length, 64);
  assert.equal((await failing.next()).value?.length, 6);
  await assert.rejects(failing.next(), /row 71/);
});

Deno.test("encodeBatch() ends at the row that takes the template past a bound, and does not leave it out", () => {
  const source = "{{ messages[0].content * 10**9 }}";
  const batch = ["", "a"].map((content, index) => ({
    row: index + 1,
    prompt: [{ role: "user", content }],
    responses: ["b"],
  }));
  const { vocabulary, settings } = job;
  assert.throws(() => encodeBatch(tokenizer.withChatTemplate(source), batch, settings, vocabulary), {
    name: "InputError",
    message:
      /^Row 2: The chat template is stopped: it makes texts and lists of more than \d+ bytes in all\.$/,
  });
});
