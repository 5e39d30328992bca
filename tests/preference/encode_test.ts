import assert from "node:assert/strict";
import fc from "fast-check";
import { encodeComparison, type EncodedGroup, type EncodeSettings } from "../../src/preference/encode.ts";
import type { Text } from "../../src/preference/rows.ts";
import type { Tokenizer } from "../../src/preference/tokenizer.ts";
import { byteLevel, CHATML, chatml, llama2, LLAMA3, llama3, load } from "./_tokenizers.ts";

const settings: EncodeSettings = {
  max_length: 4096,
  max_prompt_length: 2048,
  truncation_mode: "keep_end",
  prompt_boundary: "trl",
};
const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });

function encode(
  tokenizer: Tokenizer,
  prompt: Text,
  responses: readonly Text[],
  changes: Partial<EncodeSettings> = {},
): EncodedGroup {
  const { group, left_out } = encodeComparison(tokenizer, { row: 3, prompt, responses }, {
    ...settings,
    ...changes,
  });
  assert(group !== undefined, left_out?.reason);
  return group;
}

function leftOut(
  tokenizer: Tokenizer,
  prompt: Text,
  responses: readonly Text[],
  changes: Partial<EncodeSettings> = {},
): string {
  const { left_out } = encodeComparison(tokenizer, { row: 3, prompt, responses }, {
    ...settings,
    ...changes,
  });
  assert.equal(left_out?.row, 3);
  return left_out.reason;
}

/** [shared prompt, [own prompt part, scored part] of each response] as text. */
function spelled(tokenizer: Tokenizer, group: EncodedGroup) {
  // Token by token: a sentencepiece decoder takes the first space of every part away.
  const text = (ids: Uint32Array) => Array.from(ids, tokenizer.token).join("");
  return [
    text(group.prompt),
    ...group.responses.map(({ tokens, scored_from }) => [
      text(tokens.slice(0, scored_from)),
      text(tokens.slice(scored_from)),
    ]),
  ];
}

/** Characters below "a": one token each, none merges. */
const numbers = (count: number, from = 0): string =>
  Array.from({ length: count }, (_, index) => String.fromCharCode(33 + (from + index) % 64)).join("");

Deno.test("encodeComparison() joins strings and ends each response with EOS", () => {
  const group = encode(chatml, "Q: ", ["yes", "no"]);
  assert.deepEqual(spelled(chatml, group), ["Q: ", ["", "yes<|im_end|>"], ["", "no<|im_end|>"]]);
  assert.equal(group.row, 3);
  assert.equal(group.prompt_truncated, 0);
  assert.deepEqual(group.responses.map(({ truncated }) => truncated), [false, false]);
});

Deno.test("encodeComparison() writes BOS once, given or not", () => {
  for (const prompt of ["Q", "<bos>Q", "<bos><bos>Q"]) {
    assert.deepEqual(spelled(llama3, encode(llama3, prompt, ["A"])), ["<bos>Q", ["", "A<end>"]]);
  }
  assert.deepEqual([...encode(llama2, "ab", ["c"]).prompt].slice(0, 1), [1]);
  const templated = encode(llama3, [user("Q")], ["A"]);
  assert.equal(llama3.decode(templated.prompt), "<bos><h>user</h>\nQ<eot><h>assistant</h>\n");
});

Deno.test("encodeComparison() writes EOS once: not after one that is there, not twice, not before white space", () => {
  const tail = (response: string) => spelled(llama3, encode(llama3, "Q", [response]))[1]?.[1];
  assert.equal(tail("A"), "A<end>");
  assert.equal(tail("A<end>"), "A<end>");
  assert.equal(tail("A<end><end>"), "A<end>");
  assert.equal(tail("A<eot> \n"), "A<eot> \n");
  assert.equal(tail("A<end>B"), "A<end>B<end>");
});

Deno.test("encodeComparison() does not take an end in the prompt for the response's", () => {
  assert.deepEqual(spelled(llama3, encode(llama3, "Q<end>", [" \n"])), ["<bos>Q<end>", ["", " \n<end>"]]);
});

Deno.test("encodeComparison() with the trl boundary does not score the header", () => {
  const rows = [[assistant("yes")], "no"] as const;
  assert.deepEqual(spelled(chatml, encode(chatml, [user("Q")], rows)), [
    "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
    ["", "yes<|im_end|>\n"],
    ["", "no<|im_end|>\n"],
  ]);
  assert.deepEqual(spelled(llama2, encode(llama2, [user("ab")], [[assistant("b")]])), [
    "<s> [INST] ab [/INST]",
    ["", " b </s>"],
  ]);
});

Deno.test("encodeComparison() with the simpo boundary scores the header, without a second BOS", () => {
  const simpo = { prompt_boundary: "simpo" } as const;
  assert.deepEqual(spelled(llama3, encode(llama3, [user("Q")], ["yes", [assistant("no")]], simpo)), [
    "<bos><h>user</h>\nQ<eot>",
    ["", "<h>assistant</h>\nyes<eot><end>"],
    ["", "<h>assistant</h>\nno<eot><end>"],
  ]);
  // A template that refuses a lone assistant turn.
  assert.deepEqual(spelled(llama2, encode(llama2, [user("ab")], ["b"], simpo)), [
    "<s> [INST] ab [/INST]",
    ["", " b </s>"],
  ]);
});

Deno.test("encodeComparison() with the simpo boundary puts an empty system turn where the template knows such turns", async () => {
  const simpo = { prompt_boundary: "simpo" } as const;
  const response = ["", "<|im_start|>assistant\nyes<|im_end|>\n<|im_end|>"];
  assert.deepEqual(spelled(chatml, encode(chatml, [user("Q")], ["yes"], simpo)), [
    "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n",
    response,
  ]);
  const turns = [{ role: "system", content: "S" }, user("Q")];
  assert.deepEqual(spelled(chatml, encode(chatml, turns, ["yes"], simpo)), [
    "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n",
    response,
  ]);
  const refuses = await load({
    "tokenizer.json": byteLevel([], ["<|im_start|>", "<|im_end|>"]),
    "tokenizer_config.json": {
      eos_token: "<|im_end|>",
      chat_template: "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML,
    },
  });
  assert.deepEqual(spelled(refuses, encode(refuses, [user("Q")], ["yes"], simpo)), [
    "<|im_start|>user\nQ<|im_end|>\n",
    response,
  ]);
});

Deno.test("encodeComparison() templates the response apart where the whole does not begin with the prompt", async () => {
  // Turns before the last are shortened, as templates do that drop earlier thoughts.
  const template = LLAMA3.replace(
    "message.content | trim",
    "message.content if loop.last else message.content[:1]",
  );
  const tokenizer = await load({
    "tokenizer.json": byteLevel([], ["<bos>", "<h>", "</h>", "<eot>"], "<bos>"),
    "tokenizer_config.json": { bos_token: "<bos>", eos_token: "<eot>", chat_template: template },
  });
  const group = encode(tokenizer, [user("Quiz")], ["A"], { prompt_boundary: "simpo" });
  assert.deepEqual(spelled(tokenizer, group), [
    "<bos><h>user</h>\nQuiz<eot>",
    ["", "<h>assistant</h>\nA<eot>"],
  ]);
});

Deno.test("encodeComparison() ends the prompt where the generation prompt and the written turn part", async () => {
  const tokenizer = await load({
    "tokenizer.json": byteLevel([], ["<|im_start|>", "<|im_end|>"]),
    "tokenizer_config.json": {
      eos_token: "<|im_end|>",
      chat_template: CHATML.replace("assistant\n{% endif %}", "assistant\n[think]{% endif %}"),
    },
  });
  const [prompt, response] = spelled(tokenizer, encode(tokenizer, [user("Q")], ["yes"]));
  assert.match(prompt as string, /assistant\n$/);
  assert.deepEqual(response, ["", "yes<|im_end|>\n"]);
});

Deno.test("encodeComparison() takes a prompt string beside messages for a user turn", () => {
  assert.deepEqual(
    encode(chatml, "Q", [[assistant("yes")]]),
    encode(chatml, [user("Q")], ["yes"]),
  );
});

Deno.test("encodeComparison() goes on from a prompt that ends with an assistant turn without opening another twice", () => {
  const group = encode(chatml, [user("Q"), assistant("A")], [[user("more")]]);
  assert.deepEqual(spelled(chatml, group), [
    "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n",
    ["", "<|im_start|>user\nmore<|im_end|>\n"],
  ]);
});

Deno.test("encodeComparison() continues the assistant's turn that a prompt ends with", () => {
  for (const prompt_boundary of ["trl", "simpo"] as const) {
    const group = encode(chatml, [user("Q"), assistant("Sure, ")], ["yes", [assistant("no"), user("why?")]], {
      prompt_boundary,
    });
    const system = prompt_boundary === "simpo" ? "<|im_start|>system\n<|im_end|>\n" : "";
    const [prompt, ...responses] = spelled(chatml, group);
    assert.equal(prompt, `${system}<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nSure, `);
    assert.deepEqual(
      responses.map((parts) => (parts as string[]).join("").replace(/(<\|im_end\|>\n?)+$/, "")),
      [
        "yes",
        "no<|im_end|>\n<|im_start|>user\nwhy?",
      ],
    );
  }
  // what is continued may stand in the text behind it too
  const [prompt] = spelled(chatml, encode(chatml, [user("Q"), assistant("e")], ["yes"]));
  assert.match(String(prompt), /<\|im_start\|>assistant\ne$/);
  // a template that trims what a turn says leaves the space to the response, as continue_final_message does
  const trims = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}[end]{% endfor %}";
  const trimmed = encode(chatml.withChatTemplate(trims), [user("Q"), assistant("Sure, ")], ["yes"]);
  assert.deepEqual(spelled(chatml, trimmed).flat(), [
    "[user]Q[end][assistant]Sure,",
    "",
    " yes[end]<|im_end|>",
  ]);
  const silent = chatml.withChatTemplate(
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
  );
  assert.throws(
    () => encode(silent, [user("Q"), assistant("Sure")], ["yes"]),
    /does not write the assistant's turn/,
  );
});

Deno.test("encodeComparison() gives the template a row's tools, and its variables before the job's", () => {
  const template =
    "{{ tools[0].name if tools }} {{ mode }} {{ other }} {{ messages[0].content }}{{ messages[1].content if messages[1] }}";
  const { group } = encodeComparison(chatml.withChatTemplate(template), {
    row: 1,
    prompt: [user("Q")],
    responses: ["A"],
    tools: [{ name: "f" }],
    chat_template_kwargs: { mode: "row" },
  }, { ...settings, chat_template_kwargs: { mode: "job", other: "o" } });
  assert.deepEqual(spelled(chatml, group!)[0], "f row o Q");
});

Deno.test("encodeComparison() says how long a comparison was before it was cut", () => {
  const cut = { max_length: 16, max_prompt_length: 4 };
  const { uncut } = encodeComparison(chatml, { row: 1, prompt: numbers(20), responses: ["a", "abc"] }, {
    ...settings,
    ...cut,
  });
  assert.deepEqual(uncut, { prompt: 20, whole: 23 });
});

Deno.test("encodeComparison() says so where messages meet a model without a chat template", async () => {
  const plain = await load({ "tokenizer.json": byteLevel([], ["<e>"]) });
  assert.throws(() => encode(plain, [user("Q")], ["A"]), {
    name: "InputError",
    message: /no chat template/,
  });
  assert.deepEqual(spelled(plain, encode(plain, "Q", ["A"])), ["Q", ["", "A"]]); // nor has it an EOS to add
});

Deno.test("encodeComparison() moves the boundary back where a merge crosses it", () => {
  // "a" + "b" is one token: it holds the end of the prompt and the start of the response, and is scored.
  assert.deepEqual(spelled(chatml, encode(chatml, "xa", ["bd", "bz"])), [
    "x",
    ["", "abd<|im_end|>"],
    ["", "abz<|im_end|>"],
  ]);
  // "ab" alone is one token, in "abc" it is "a", "bc": both that the prompt does not spell so are scored.
  assert.deepEqual(spelled(chatml, encode(chatml, "xab", ["c"])), ["x", ["", "abc<|im_end|>"]]);
});

Deno.test("encodeComparison() shares the longest common prefix where the responses' prompt parts differ", () => {
  // In the first the merge takes "a" out of the prompt, in the second "a" stays in it.
  const group = encode(chatml, "xa", ["b", "q"]);
  assert.deepEqual(spelled(chatml, group), ["x", ["", "ab<|im_end|>"], ["a", "q<|im_end|>"]]);
  assert.deepEqual(group.responses.map(({ scored_from }) => scored_from), [0, 1]);
});

Deno.test("encodeComparison() keeps scored tokens out of the shared prefix, be they all the same", () => {
  const group = encode(chatml, "Q: ", ["same", "same"]);
  assert.deepEqual(spelled(chatml, group), ["Q: ", ["", "same<|im_end|>"], ["", "same<|im_end|>"]]);
});

Deno.test("encodeComparison() with an empty prompt scores from the first token that something precedes", () => {
  assert.deepEqual(spelled(chatml, encode(chatml, "", ["yes", "you"])), [
    "",
    ["y", "es<|im_end|>"],
    ["y", "ou<|im_end|>"],
  ]);
  assert.deepEqual(spelled(llama3, encode(llama3, "", ["yes"])), ["<bos>", ["", "yes<end>"]]);
  assert.deepEqual(spelled(llama3, encode(llama3, "", ["<bos>yes"])), ["<bos>", ["", "yes<end>"]]);
});

Deno.test("encodeComparison() leaves a prompt alone that is over max_prompt_length but fits", () => {
  const group = encode(chatml, numbers(50), ["no", "yes"], { max_length: 54, max_prompt_length: 10 });
  assert.deepEqual([group.prompt.length, group.prompt_truncated], [50, 0]);
});

Deno.test("encodeComparison() cuts the prompt first, at the end that truncation_mode says", () => {
  const prompt = numbers(50);
  const cut = { max_length: 53, max_prompt_length: 10 };
  const end = encode(chatml, prompt, ["no", "yes"], cut);
  assert.deepEqual(spelled(chatml, end), [prompt.slice(-10), ["", "no<|im_end|>"], ["", "yes<|im_end|>"]]);
  assert.equal(end.prompt_truncated, 40);
  assert.deepEqual(end.responses.map(({ truncated }) => truncated), [false, false]);
  const start = encode(chatml, prompt, ["no", "yes"], { ...cut, truncation_mode: "keep_start" });
  assert.deepEqual(spelled(chatml, start), [prompt.slice(0, 10), ["", "no<|im_end|>"], [
    "",
    "yes<|im_end|>",
  ]]);
});

Deno.test("encodeComparison() never cuts BOS off", () => {
  const prompt = numbers(50);
  const cut = { max_length: 20, max_prompt_length: 10 };
  for (const truncation_mode of ["keep_end", "keep_start"] as const) {
    const group = encode(llama3, prompt, ["yes"], { ...cut, truncation_mode });
    const kept = truncation_mode === "keep_end" ? prompt.slice(-9) : prompt.slice(0, 9);
    assert.equal(llama3.decode(group.prompt), `<bos>${kept}`);
    assert.equal(group.prompt_truncated, 41);
    const none = encode(llama3, prompt, ["yes"], { ...cut, truncation_mode, max_prompt_length: 0 });
    assert.equal(llama3.decode(none.prompt), "<bos>");
  }
});

Deno.test("encodeComparison() cuts the same prompt tokens for all responses, so that they stay shared", () => {
  const prompt = numbers(30) + "xa";
  const group = encode(chatml, prompt, ["b", "q"], { max_length: 20, max_prompt_length: 8 });
  assert.deepEqual(spelled(chatml, group), [prompt.slice(-8, -1), ["", "ab<|im_end|>"], [
    "a",
    "q<|im_end|>",
  ]]);
  assert.equal(group.prompt_truncated, 24);
});

Deno.test("encodeComparison() cuts each response to what its prompt leaves of max_length (trl#6548)", () => {
  // TRL cut both responses by the longer one's length: 1000 + 100 > 1024 left 24 tokens.
  const cut = { max_length: 1024, max_prompt_length: 1000 };
  const group = encode(chatml, numbers(100), [numbers(1000), numbers(40, 7)], cut);
  assert.equal(group.prompt.length, 100);
  assert.deepEqual(group.responses.map(({ tokens, truncated }) => [tokens.length, truncated]), [[924, true], [
    41,
    false,
  ]]);
  assert.equal(chatml.decode(group.responses[0]!.tokens), numbers(924));
  // Past max_length its bound was negative and emptied the shorter response.
  const longer = encode(chatml, numbers(100), [numbers(1500), numbers(40, 7)], cut);
  assert.deepEqual(longer.responses.map(({ tokens }) => tokens.length), [924, 41]);
});

Deno.test("encodeComparison() leaves out a row with a response without a token, and says which", () => {
  assert.equal(leftOut(chatml, "Q", ["yes", ""]), "response 2 of 2 is empty");
  assert.equal(leftOut(chatml, "Q", [""]), "the response is empty");
  assert.equal(leftOut(chatml, [user("Q")], [[assistant("")], "no"]), "response 1 of 2 is empty");
  assert.equal(leftOut(chatml, [user("Q")], [[], "no"]), "response 1 of 2 is empty");
  assert.equal(leftOut(chatml, "Q", ["yes", "<|im_end|>"]), "response 2 of 2 has no token besides the end");
  assert.equal(leftOut(llama3, [user("Q")], [" \n "]), "the response has no token besides the end");
});

Deno.test("encodeComparison() leaves out a row that truncation leaves without a response token", () => {
  const cut = { max_length: 20, max_prompt_length: 20 };
  assert.equal(
    leftOut(chatml, numbers(30), ["yes", "no"], cut),
    "response 1 of 2 has no token left: its prompt takes 20 of max_length 20",
  );
  assert.equal(
    encode(chatml, numbers(30), ["yes", "no"], { ...cut, max_prompt_length: 19 }).responses[1]?.tokens.length,
    1,
  );
});

Deno.test("encodeComparison() leaves out a lone token that nothing precedes", async () => {
  const noEos = await load({ "tokenizer.json": byteLevel([], ["<e>"]) });
  assert.match(leftOut(noEos, "", ["A"]), /nothing before it/);
  assert.deepEqual(spelled(noEos, encode(noEos, "", ["AB"])), ["", ["A", "B"]]);
});

Deno.test("encodeComparison() keeps a response of tool calls", () => {
  const call = { role: "assistant", content: "", tool_calls: [] };
  assert.deepEqual(spelled(llama2, encode(llama2, [user("Q")], [[call]], { prompt_boundary: "simpo" })), [
    "<s> [INST] Q [/INST]",
    ["", "  </s>"],
  ]);
});

Deno.test("encodeComparison() refuses a comparison without responses", () => {
  assert.throws(() => encode(chatml, "Q", []), { name: "InputError", message: "body has no response." });
});

Deno.test("encodeComparison() gives every response the tokens it has alone, whatever stands beside it", () => {
  const text = fc.string({ unit: fc.constantFrom(..."abcx \n"), maxLength: 12 });
  const answer = fc.string({ unit: fc.constantFrom(..."abcx \n"), minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(
      fc.constantFrom(chatml, llama3, llama2),
      text,
      fc.array(answer, { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      fc.constantFrom("trl", "simpo"),
      (tokenizer, prompt, responses, chat, prompt_boundary) => {
        const turns = chat && prompt !== "" ? [user(prompt)] : prompt;
        const changes = { prompt_boundary };
        const result = encodeComparison(tokenizer, { row: 1, prompt: turns, responses }, {
          ...settings,
          ...changes,
        });
        fc.pre(result.group !== undefined);
        const { prompt: shared, responses: encoded } = result.group;
        encoded.forEach(({ tokens, scored_from }, index) => {
          const alone = encode(tokenizer, turns, [responses[index]!], changes);
          const whole = [...alone.prompt, ...alone.responses[0]!.tokens];
          assert.deepEqual([...shared, ...tokens], whole);
          assert.equal(shared.length + scored_from, alone.prompt.length + alone.responses[0]!.scored_from);
          assert(scored_from < tokens.length && shared.length + scored_from >= 1);
          if (tokenizer.bos !== null) {
            assert.equal(whole[0], tokenizer.bos);
            assert.equal(whole.filter((id) => id === tokenizer.bos).length, 1);
          }
          const ends = tokens.slice(scored_from).filter((id) => tokenizer.eos.includes(id));
          // The authors' code adds EOS behind a template's line feed too.
          if (prompt_boundary === "trl") assert.equal(ends.length, 1);
          else assert.equal(tokens.at(-1), tokenizer.eosId);
        });
        // Longest: two responses' prompt parts differ right after the shared prefix, or one ends there.
        const parts = encoded.map(({ tokens, scored_from }) => tokens.slice(0, scored_from));
        if (shared.length > 0) {
          assert(parts.some((part) => part.length === 0) || new Set(parts.map((part) => part[0])).size > 1);
        }
      },
    ),
    { seed: 1, numRuns: 300 },
  );
});

Deno.test("encodeComparison() keeps within max_length, loses no response token it need not, and counts what it cut", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(chatml, llama3),
      fc.nat(40),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 0, max: 50 }),
      fc.constantFrom("keep_end", "keep_start"),
      (tokenizer, promptLength, lengths, max_length, max_prompt_length, truncation_mode) => {
        const changes = { max_length, max_prompt_length, truncation_mode };
        const prompt = numbers(promptLength);
        const responses = lengths.map((length, index) => numbers(length, 5 + index));
        const full = encode(tokenizer, prompt, responses);
        const result = encodeComparison(tokenizer, { row: 1, prompt, responses }, {
          ...settings,
          ...changes,
        });
        if (result.group === undefined) {
          const bos = tokenizer.bos === null ? 0 : 1;
          assert(
            Math.min(full.prompt.length, Math.max(max_prompt_length, bos, 1)) >= max_length ||
              max_length <= 1,
          );
          return;
        }
        const { prompt: shared, responses: encoded, prompt_truncated } = result.group;
        assert.equal(shared.length + prompt_truncated, full.prompt.length);
        encoded.forEach(({ tokens, scored_from, truncated }, index) => {
          const whole = full.responses[index]!.tokens;
          assert(tokens.length > scored_from);
          assert.deepEqual(tokens, whole.slice(0, tokens.length));
          assert.equal(tokens.length, Math.min(whole.length, max_length - shared.length));
          assert.equal(truncated, tokens.length < whole.length);
        });
      },
    ),
    { seed: 2, numRuns: 300 },
  );
});
