/** Over HTTP with the real engine: /score takes the tokens that training took, and says how it came to them. */
import assert from "node:assert/strict";
import { startEngine } from "../../src/engine/client.ts";
import type { ScoredCandidate } from "../../src/api/score.ts";
import type { ScoredItem } from "../../src/engine/protocol.ts";
import type { Message } from "../../src/preference/rows.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { testService } from "../helpers/service.ts";
import { chatRows } from "../helpers/tiny_model.ts";
import { logprobsOf, meansOf } from "./_lab.ts";

const engine = await startEngine({ device: "auto", allowSoftware: true });
const service = await testService({ engine: Promise.resolve(engine) });
Deno.test.afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await engine.stop();
});

/** Writes turns as Llama 2's kin do: EOS and a line feed behind each; with tools, names and a variable of its own. */
const TEMPLATE = "{{ bos_token }}{% if tools %}{{ tools[0].function.name }} {% endif %}" +
  "{% for message in messages %}<|{{ message.role }}|>{% if message.name is defined %}{{ message.name }} {% endif %}" +
  "{% if thinking and message.role == 'assistant' %}hm {% endif %}{{ message.content }}{{ eos_token }}\n{% endfor %}" +
  "{% if add_generation_prompt %}<|assistant|>{% if thinking %}hm {% endif %}{% endif %}";

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });
interface Row extends Record<"prompt" | "chosen" | "rejected", unknown> {
  readonly tools?: unknown;
  readonly chat_template_kwargs?: unknown;
}
const ROWS: Row[] = [
  ...chatRows(2),
  {
    prompt: [{ role: "system", content: "in the bath", name: null }, {
      ...user("the thin hand"),
      name: "kim",
    }],
    chosen: [assistant("out of the sand and the other sand")],
    rejected: [assistant("ten"), user("tin"), assistant("a win")],
  },
  {
    prompt: "the other thin hand in the sand of the bath",
    chosen: " is out",
    rejected: " a tin, a tin, a tin",
  },
  {
    prompt: "the tin",
    chosen: "out",
    rejected: "in the bath",
    tools: [{ type: "function", function: { name: "win" } }],
    chat_template_kwargs: { thinking: true },
  },
  { prompt: [user("sand"), assistant("the")], chosen: [assistant(" hand")], rejected: [assistant(" win")] },
];
const ITEMS = ROWS.map(({ prompt, chosen, rejected, ...rest }) => ({
  prompt,
  candidates: [chosen, rejected],
  ...rest,
}));

const encodings = {
  "whole rows": { max_length: 128, max_prompt_length: 100 },
  "cut rows": { max_length: 24, max_prompt_length: 14 },
  "cut rows that keep their start": { max_length: 24, max_prompt_length: 14, truncation_mode: "keep_start" },
  "rows with variables of the template": {
    max_length: 128,
    max_prompt_length: 100,
    chat_template_kwargs: { thinking: true },
  },
};

async function score(fields: Readonly<Record<string, unknown>>, items: unknown = ITEMS) {
  const { status, body } = await service.post("/score", { model: "model", items, ...fields });
  assert.equal(status, 200, JSON.stringify(body));
  return body as { readonly items: ScoredItem[]; readonly encoding: Record<string, unknown> };
}

/** @returns the job, which is taken */
async function queue(fields: Readonly<Record<string, unknown>>) {
  const { status, body } = await service.post("/train", fields);
  assert.equal(status, 202, JSON.stringify(body));
  return body;
}

for (const prompt_boundary of ["trl", "simpo"]) {
  for (const [name, settings] of Object.entries(encodings)) {
    Deno.test(`POST /score gives the log-probs that a job logs: ${prompt_boundary}, ${name}`, async () => {
      const encoding = { prompt_boundary, chat_template: TEMPLATE, ...settings };
      const rows = { rows: ROWS };
      const queued = await queue({
        model: "model",
        dataset: rows,
        eval_dataset: rows,
        max_steps: 1,
        batch_size: ROWS.length,
        learning_rate: 1e-2,
        warmup_ratio: 0,
        lr_scheduler_type: "constant",
        lora: { r: 2 },
        ...encoding,
      });
      await service.until(queued.id, "succeeded", "failed");
      const { body: job } = await service.get(`/train/${queued.id}`);
      assert.deepEqual([job.status, job.rows_left_out.count], ["succeeded", 0]);
      const logged = (prefix: string) =>
        ["chosen", "rejected"].map((part) => job.metrics[`${prefix}logps/${part}`]);

      // the first step's are of the weights before it
      const before = await score(encoding);
      assertClose(meansOf(logprobsOf(before.items)), logged(""), { rtol: 1e-5, relativeTo: "element" });
      const after = await score({ adapter: queued.id });
      assertClose(meansOf(logprobsOf(after.items)), logged("eval_"), { rtol: 1e-5, relativeTo: "element" });
      assert.throws(() => assertClose(logprobsOf(before.items), logprobsOf(after.items), { rtol: 1e-4 }));

      const { chat_template: _, ...values } = encoding;
      const used = {
        truncation_mode: "keep_end",
        add_eos_token: true,
        chat_template_kwargs: null,
        split_special_tokens: null,
        quantization: null,
        ...values,
      };
      assert.deepEqual(before.encoding, { ...used, chat_template: "request" });
      assert.deepEqual(after.encoding, { ...used, chat_template: "job" });
      const isCut = name.startsWith("cut");
      const cuts = after.items.map(({ prompt_truncated, results }) => [
        prompt_truncated > 0,
        ...results.flatMap(({ truncated, candidate_truncated }) => [truncated, candidate_truncated]),
      ]);
      assert.deepEqual(cuts.flat().includes(true), isCut);
      if (!isCut) return;
      for (const [prompt, chosen, chosenItself, rejected, rejectedItself] of cuts) {
        assert.deepEqual([chosen, rejected], [prompt || chosenItself, prompt || rejectedItself]);
      }
      assert.ok(
        cuts.some(([prompt]) => prompt) && cuts.some((cut) => cut[2] || cut[4]),
        JSON.stringify(cuts),
      );
    });
  }
}

for (const name of ["whole rows", "cut rows"] as const) {
  Deno.test(`POST /score with the id of a job of prompt_boundary simpo takes its boundary and lengths unasked: ${name}`, async () => {
    const rows = { rows: chatRows(4) };
    const job = await queue({
      model: "model",
      dataset: rows,
      eval_dataset: rows,
      max_steps: 1,
      batch_size: 4,
      lora: { r: 2 },
      prompt_boundary: "simpo",
      ...encodings[name],
    });
    await service.until(job.id, "succeeded", "failed");
    const { metrics } = (await service.get(`/train/${job.id}`)).body;
    const items = chatRows(4).map(({ prompt, chosen, rejected }) => ({
      messages: prompt,
      candidates: [chosen, rejected].map((turns) => (turns as Message[])[0]!.content),
    }));
    const scored = logprobsOf((await score({ adapter: job.id }, items)).items);
    const logged = [metrics["eval_logps/chosen"], metrics["eval_logps/rejected"]];
    assertClose(meansOf(scored), logged, { rtol: 1e-5, relativeTo: "element" });
  });
}

const tokensOf = ({ results }: ScoredItem) => results.map(({ tokens }) => tokens!.join(""));

Deno.test("POST /train and POST /score with split_special_tokens take special tokens of the rows for text, and no others", async () => {
  const rows = [
    {
      prompt: [user("the <|end|> hand")],
      chosen: [assistant("out<|end|>in")],
      rejected: [assistant("<|end|>")],
    },
    { prompt: "<|end|>the", chosen: " out<|end|>", rejected: " <|end|>tin" },
  ];
  const job = {
    model: "model",
    dataset: { rows },
    max_steps: 1,
    batch_size: rows.length,
    learning_rate: 1e-9,
    warmup_ratio: 0,
    lora: { r: 2 },
    chat_template: TEMPLATE,
    split_special_tokens: true,
  };
  const { status, body: seen } = await service.post("/train?dry_run=true", job);
  assert.equal(status, 200, JSON.stringify(seen));
  const { body: trusting } = await service.post("/train?dry_run=true", {
    ...job,
    split_special_tokens: false,
  });
  interface Seen {
    readonly prompt: string;
    readonly responses: readonly { readonly scored: string; readonly scored_tokens: number }[];
  }
  const responsesOf = ({ train }: { train: { first: Seen[] } }) =>
    train.first.map(({ responses }) => responses);
  const counts = (body: typeof seen) =>
    responsesOf(body).map((all) => all.map(({ scored_tokens }) => scored_tokens));
  const first = (body: typeof seen) => body.train.first[0].prompt + responsesOf(body)[0]![0]!.scored;
  assert.equal(first(seen), first(trusting));
  for (const [row, of] of counts(seen).entries()) {
    for (const [response, count] of of.entries()) assert.ok(count > counts(trusting)[row]![response]!);
  }

  const queued = await queue(job);
  await service.until(queued.id, "succeeded", "failed");
  const { metrics } = (await service.get(`/train/${queued.id}`)).body;
  const items = rows.map(({ prompt, chosen, rejected }) => ({ prompt, candidates: [chosen, rejected] }));
  const scored = await score({ adapter: queued.id }, items);
  assert.equal(scored.encoding["split_special_tokens"], true);
  assertClose(meansOf(logprobsOf(scored.items)), [metrics["logps/chosen"], metrics["logps/rejected"]], {
    rtol: 1e-5,
    relativeTo: "element",
  });
  const numbers = ({ items }: typeof scored) =>
    items.map(({ results }) => results.map(({ num_tokens }) => num_tokens));
  assert.deepEqual(numbers(scored), counts(seen));
  const trusted = await score({ adapter: queued.id, split_special_tokens: false }, items);
  assert.deepEqual(numbers(trusted), counts(trusting));
});

Deno.test("POST /score prefers what the request gives to what a job has", async () => {
  const job = await queue({
    model: "model",
    dataset: { rows: ROWS },
    max_steps: 1,
    batch_size: 4,
    lora: { r: 2 },
    prompt_boundary: "simpo",
    max_length: 24,
    max_prompt_length: 14,
    chat_template: TEMPLATE,
    chat_template_kwargs: { thinking: true },
  });
  await service.until(job.id, "succeeded", "failed");
  const items = [{ messages: [user("the hand")], candidates: ["out"] }];
  const ask = async (fields: Record<string, unknown>) => {
    const answer = await score({ adapter: job.id, token_logprobs: true, ...fields }, items);
    return [
      tokensOf(answer.items[0]!)[0],
      answer.encoding["max_length"],
      answer.encoding["max_prompt_length"],
    ];
  };
  assert.deepEqual(await ask({}), ["<|assistant|>hm out<|end|>\n<|end|>", 24, 14]);
  assert.deepEqual(await ask({ prompt_boundary: "trl" }), ["out<|end|>\n", 24, 14]);
  assert.deepEqual(await ask({ chat_template_kwargs: null }), ["<|assistant|>out<|end|>\n<|end|>", 24, 14]);
  assert.deepEqual(await ask({ chat_template_kwargs: { thinking: false }, add_eos_token: false }), [
    "<|assistant|>out<|end|>\n",
    24,
    14,
  ]);
  assert.deepEqual((await ask({ max_length: 13 })).slice(1), [13, 12]);
  assert.deepEqual((await ask({ max_length: null })).slice(1), [128, null]);
  assert.deepEqual((await ask({ max_length: 500 })).slice(1), [128, 14]);
});

Deno.test("POST /score gives null scores and a reason to candidates that have none, and compares the others", async () => {
  const long = "x".repeat(128);
  const candidates = ["", " out", long, "<|end|>", " in the bath"];
  const { items } = await score({ token_logprobs: true }, [{ prompt: "the", candidates }, {
    messages: [user("the")],
    candidates: ["", [{ ...assistant(""), name: "kim" }]],
  }, { prompt: "the", candidates: [" out", " in the bath"] }]);
  const [some, none, others] = items;
  assert.deepEqual(some!.results.map(({ reason }) => reason), [
    "The candidate is empty.",
    undefined,
    "The candidate has 129 tokens, but the model's context is 128.",
    "The candidate has no token besides the end.",
    undefined,
  ]);
  const { index, rank, average_logprob, sum_logprob, num_tokens, reward, tokens } = some!.results[0]!;
  assert.deepEqual([index, rank, average_logprob, sum_logprob, num_tokens, reward, tokens], [
    0,
    null,
    null,
    null,
    0,
    null,
    [],
  ]);
  const scored = [some!.results[1]!, some!.results[4]!];
  assertClose(
    scored.map(({ average_logprob }) => average_logprob!),
    logprobsOf([others!]),
    { rtol: 1e-6, relativeTo: "element" },
  );
  assert.deepEqual(scored.map(({ rank }) => rank), others!.results.map(({ rank }) => rank));
  assert.equal(some!.best, [1, 4][others!.best!]);
  assertClose([some!.margin!], [others!.margin!], { rtol: 1e-5 });
  assert.deepEqual([none!.best, none!.margin], [null, null]);
  assert.deepEqual(none!.results.map(({ rank }) => rank), [null, null]);

  const lone = await service.post("/score", { model: "model", prompt: "the", candidates: [long] });
  assert.deepEqual([lone.status, lone.body.field], [422, "candidates[0]"]);
  assert.match(lone.body.detail, /^candidates\[0\] cannot be scored: the candidate has 129 tokens/);
  const two = {
    model: "model",
    items: [{ prompt: "a", candidates: [""] }, { prompt: "a", candidates: ["b"] }],
  };
  assert.deepEqual((await service.post("/score", two)).body.items.map(({ best }: ScoredItem) => best), [
    null,
    0,
  ]);
});

/** Of the tiny model: bytes come first, and the pair "in" is one token. */
const [BOS, END, IN, A] = [263, 264, 258, 97];

Deno.test("POST /score gives a candidate that the template refuses a reason, and refuses what it refuses throughout", async () => {
  const chat_template =
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}" +
    "{{ m.content }}{% endfor %}";
  const candidates = [[{ role: "tool", content: "2" }], "", "2"];
  const { items } = await score({ chat_template }, [{ prompt: "1 + 1?", candidates }]);
  assert.deepEqual(items[0]!.results.map(({ reason }) => reason), [
    "The candidate cannot be templated: The chat template refuses the messages: no tools.",
    "The candidate is empty.",
    undefined,
  ]);
  const refused = { model: "model", chat_template, messages: candidates[0], candidates };
  const { status, body } = await service.post("/score", refused);
  assert.deepEqual([status, body.field], [422, "messages"]);
});

Deno.test("POST /score takes token ids as they are, without BOS or EOS", async () => {
  const asText = { prompt: "in", candidates: ["a", "aa"] };
  const asIds = { prompt: [BOS, IN], candidates: [[A], [A, END], [END], []] };
  const [text] = (await score({ add_eos_token: false }, [asText])).items;
  const ids = (await service.post("/score", { model: "model", token_logprobs: true, ...asIds })).body;
  assert.deepEqual(tokensOf(ids), ["a", "a<|end|>", "<|end|>", ""]);
  assertClose([ids.results[0].average_logprob], [text!.results[0]!.average_logprob!], { rtol: 1e-6 });
  assert.deepEqual(ids.results.map(({ num_tokens }: ScoredCandidate) => num_tokens), [1, 2, 1, 0]);
  assert.equal(ids.results[3].reason, "The candidate is empty.");
  const { prompt_tokens, candidate_tokens, total_tokens } = ids.usage;
  assert.deepEqual([prompt_tokens, candidate_tokens, total_tokens], [2, 4, 6]);
  // cut as text is: BOS stays
  const cut = { prompt: [BOS, 1, 2, 3], candidates: [[A, A, END], [A]] };
  const { items } = await score({ max_length: 4, max_prompt_length: 2, token_logprobs: true }, [cut]);
  const same = await score({ token_logprobs: true }, [{ prompt: [BOS, 3], candidates: [[A, A], [A]] }]);
  assert.deepEqual(tokensOf(items[0]!), ["aa", "a"]);
  assertClose(logprobsOf(items), logprobsOf(same.items), { rtol: 1e-6 });
  assert.equal(items[0]!.prompt_truncated, 2);
  assert.deepEqual(items[0]!.results.map(({ candidate_truncated }) => candidate_truncated), [true, false]);
});

Deno.test("POST /score leaves EOS out where add_eos_token is false", async () => {
  const items = [{ prompt: "the", candidates: [" out", " out<|end|>"] }];
  const [whole] = (await score({ token_logprobs: true }, items)).items;
  const [without] = (await score({ token_logprobs: true, add_eos_token: false }, items)).items;
  assert.deepEqual(tokensOf(whole!), [" out<|end|>", " out<|end|>"]);
  assert.deepEqual(tokensOf(without!), [" out", " out<|end|>"]);
  assert.equal(without!.results[0]!.num_tokens, whole!.results[0]!.num_tokens - 1);
});

Deno.test("POST /score takes a candidate of several turns, tool calls and parts", async () => {
  const tool_calls = [{ type: "function", function: { name: "add", arguments: { a: 1 } } }];
  const chat_template = "{% for m in messages %}<|{{ m.role }}|>{% if m.tool_calls %}" +
    "{{ m.tool_calls[0].function.name }}{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}" +
    "{% if add_generation_prompt %}<|assistant|>{% endif %}";
  const { items } = await score({ chat_template, token_logprobs: true }, [{
    prompt: [{ role: "user", content: [{ type: "text", text: "1 + " }, { type: "text", text: "1?" }] }],
    candidates: [
      [{ role: "assistant", content: null, tool_calls }, { role: "tool", content: "2" }, assistant("two")],
      [{ role: "assistant", tool_calls }],
      "2",
    ],
  }, { messages: [user("1 + 1?")], candidates: [[assistant("2")]] }]);
  assert.deepEqual(tokensOf(items[0]!), [
    "add<|end|><|tool|>2<|end|><|assistant|>two<|end|>",
    "add<|end|>",
    "2<|end|>",
  ]);
  assertClose([logprobsOf(items)[2]!], [logprobsOf(items)[3]!], { rtol: 1e-6 });
});
