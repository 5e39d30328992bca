/** Every shape of docs/data.md, as its data set has it: what is made of a row, and nothing of its text lost. */
import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { type Message, readRow, type RowOptions, type RowReading } from "../../src/preference/rows.ts";

const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });
const system = (content: string): Message => ({ role: "system", content });
const turns = [user("q"), assistant("a")];

interface Case {
  /** As docs/data.md names it. */
  readonly name: string;
  readonly options?: Partial<RowOptions>;
  readonly row: Record<string, unknown>;
  /** [prompt, ...responses] of each comparison. */
  readonly made: readonly (readonly unknown[])[];
  readonly shape: string;
  readonly unused?: readonly string[];
}

const preference: readonly Case[] = [
  {
    name: "TRL's pairs",
    row: { prompt: "p", chosen: "c", rejected: "r", score: 3 },
    made: [["p", "c", "r"]],
    shape: "{prompt, chosen, rejected}",
  },
  {
    name: "UltraFeedback binarized",
    row: {
      prompt: "q",
      prompt_id: "f0",
      chosen: turns,
      rejected: [user("q"), assistant("b")],
      messages: turns,
      score_chosen: 8.5,
      score_rejected: 6,
    },
    made: [[[user("q")], [assistant("a")], [assistant("b")]]],
    shape: "{prompt, chosen, rejected}",
    unused: ["prompt_id", "messages"],
  },
  {
    name: "HH-RLHF",
    row: { chosen: "\n\nHuman: q\n\nAssistant: Yes, a", rejected: "\n\nHuman: q\n\nAssistant: Yes, b" },
    made: [["\n\nHuman: q\n\nAssistant:", " Yes, a", " Yes, b"]],
    shape: "{chosen, rejected}, as a dialogue",
  },
  {
    name: "Intel's orca_dpo_pairs",
    row: { system: "s", question: "q", chosen: "c", rejected: "r" },
    made: [[[system("s"), user("q")], "c", "r"]],
    shape: "{system, question, chosen, rejected}",
  },
  {
    name: "Intel's orca_dpo_pairs, no system text",
    row: { system: "", question: "q", chosen: "c", rejected: "r" },
    made: [[[user("q")], "c", "r"]],
    shape: "{system, question, chosen, rejected}",
  },
  {
    name: "argilla's orca pairs",
    row: {
      system: "s",
      input: "q",
      chosen: "c",
      rejected: "r",
      generations: ["c", "r"],
      rating: [9, 7],
      rationale: "because",
      status: "unchanged",
    },
    made: [[[system("s"), user("q")], "c", "r"]],
    shape: "{system, input, chosen, rejected}",
    unused: ["generations", "rationale", "status"],
  },
  {
    name: "alpaca pairs",
    row: { instruction: "Add.", input: "1 2", chosen: "3", rejected: "4" },
    made: [[[user("Add.\n1 2")], "3", "4"]],
    shape: "{instruction, input, chosen, rejected}",
  },
  {
    name: "alpaca pairs, with history and system",
    row: {
      instruction: "Add.",
      input: "",
      chosen: "3",
      rejected: "4",
      system: "s",
      history: [["hi", "hello"]],
    },
    made: [[[system("s"), user("hi"), assistant("hello"), user("Add.")], "3", "4"]],
    shape: "{system, instruction, input, history, chosen, rejected}",
  },
  {
    name: "ShareGPT ranking",
    row: {
      conversations: [{ from: "human", value: "q" }],
      chosen: { from: "gpt", value: "c" },
      rejected: { from: "gpt", value: "r" },
    },
    made: [[[user("q")], [assistant("c")], [assistant("r")]]],
    shape: "{conversations, chosen, rejected}",
  },
  {
    name: "truthy-dpo",
    row: { id: "1", source: "truthy", system: "s", prompt: "q", chosen: "c", rejected: "r" },
    made: [[[system("s"), user("q")], "c", "r"]],
    shape: "{system, prompt, chosen, rejected}",
    unused: ["id", "source"],
  },
  {
    name: "turns beside strings",
    row: { messages: [user("q")], chosen: "A", rejected: "B" },
    made: [[[user("q")], "A", "B"]],
    shape: "{messages, chosen, rejected}",
  },
  {
    name: "HelpSteer2 preference",
    row: {
      prompt: "p",
      response_1: "x",
      response_2: "y",
      preference_strength: 2,
      preference_statement: "y is better",
    },
    made: [["p", "y", "x"]],
    shape: "{prompt, response_1, response_2, preference_strength}",
    unused: ["preference_statement"],
  },
  {
    name: "HelpSteer3 preference",
    row: {
      domain: "code",
      language: "python",
      context: [user("q")],
      response1: "x",
      response2: "y",
      overall_preference: -1,
      individual_preference: [{ score: -1, reasoning: "x" }],
    },
    made: [[[user("q")], "x", "y"]],
    shape: "{context, response1, response2, overall_preference}",
    unused: ["domain", "language", "individual_preference"],
  },
  {
    name: "HelpSteer's ties",
    row: { prompt: "p", response_1: "x", response_2: "y", preference_strength: 0 },
    made: [],
    shape: "{response_1, response_2, preference_strength}",
    unused: ["prompt"],
  },
  {
    name: "Nectar",
    row: {
      prompt: "\n\nHuman: q\n\nAssistant: ",
      answers: [{ answer: "b", model: "m", rank: 2 }, { answer: "a", model: "n", rank: 1 }, {
        answer: "c",
        model: "o",
        rank: 3,
      }],
      source: ["x"],
    },
    made: [["\n\nHuman: q\n\nAssistant: ", "a", "c", [1, 3]]],
    shape: "{prompt, answers}",
    unused: ["source", "answers[].model"],
  },
  {
    name: "Nectar, adjacent",
    options: { pairs: "adjacent" },
    row: {
      prompt: "p",
      answers: [{ answer: "b", rank: 2 }, { answer: "a", rank: 1 }, { answer: "c", rank: 3 }, {
        answer: "d",
        rank: 3,
      }],
    },
    made: [["p", "a", "b", [1, 2]], ["p", "b", "c", [2, 3]]],
    shape: "{prompt, answers}",
  },
  {
    name: "Nectar, all",
    options: { pairs: "all" },
    row: {
      prompt: "p",
      answers: [{ answer: "b", rank: 2 }, { answer: "a", rank: 1 }, { answer: "c", rank: 2 }],
    },
    made: [["p", "a", "b", [1, 2]], ["p", "a", "c", [1, 2]]],
    shape: "{prompt, answers}",
  },
  {
    name: "SHP",
    row: {
      post_id: "x",
      domain: "d",
      history: "post",
      human_ref_A: "x",
      human_ref_B: "y",
      labels: 0,
      score_A: 1,
      score_B: 2,
    },
    made: [[[user("post")], "y", "x"]],
    shape: "{history, human_ref_A, human_ref_B, labels}",
    unused: ["post_id", "domain"],
  },
  {
    name: "stack-exchange-paired",
    row: { qid: 1, question: "q", date: "2020", metadata: ["u"], response_j: "c", response_k: "r" },
    made: [[[user("q")], "c", "r"]],
    shape: "{question, response_j, response_k}",
    unused: ["date", "metadata"],
  },
  {
    name: "tulu's mixtures",
    row: {
      id: "1",
      source: "s",
      prompt: "q2",
      chosen: [user("q"), assistant("a"), user("q2"), assistant("c")],
      rejected: [user("q"), assistant("a"), user("q2"), assistant("r")],
    },
    made: [[[user("q"), assistant("a"), user("q2")], [assistant("c")], [assistant("r")]]],
    shape: "{prompt, chosen, rejected}",
    unused: ["id", "source"],
  },
  {
    name: "Skywork's preferences",
    row: { chosen: turns, rejected: [user("q"), assistant("b")], source: "s" },
    made: [[[user("q")], [assistant("a")], [assistant("b")]]],
    shape: "{chosen, rejected}",
    unused: ["source"],
  },
  {
    name: "arena, content parts",
    row: {
      model_a: "m",
      model_b: "n",
      winner: "model_b",
      conversation_a: [{ role: "user", content: [{ type: "text", text: "q" }] }, {
        role: "assistant",
        content: [{ type: "text", text: "x" }],
      }],
      conversation_b: [{ role: "user", content: [{ type: "text", text: "q" }] }, {
        role: "assistant",
        content: [{ type: "text", text: "y" }],
      }],
    },
    made: [[[user("q")], [assistant("y")], [assistant("x")]]],
    shape: "{winner, conversation_a, conversation_b}",
    unused: ["model_a", "model_b"],
  },
  {
    name: "arena, JSON text",
    row: {
      prompt: '["q", "q2"]',
      response_a: '["x", "x2"]',
      response_b: '["x", "y2"]',
      winner_model_a: 1,
      winner_model_b: 0,
      winner_tie: 0,
    },
    made: [[[user("q"), assistant("x"), user("q2")], [assistant("x2")], [assistant("y2")]]],
    shape: "{prompt, winner_tie, winner_model_b, winner_model_a, response_a, response_b}",
  },
  {
    name: "SimPO's sampled answers",
    row: {
      prompt: "q",
      all_generated_responses: ["x", "y", "z"],
      all_rm_scores: [0.1, 0.3, 0.2],
      chosen: [user("q"), assistant("y")],
      rejected: [user("q"), assistant("x")],
    },
    made: [[[user("q")], [assistant("y")], [assistant("x")]]],
    shape: "{prompt, chosen, rejected}",
    unused: ["all_generated_responses"],
  },
  {
    name: "SimPO's sampled answers, all pairs",
    options: { pairs: "all" },
    row: { prompt: "q", all_generated_responses: ["x", "y", "z"], all_rm_scores: [0.1, 0.3, 0.2] },
    made: [["q", "y", "z", [1, 2]], ["q", "y", "x", [1, 3]], ["q", "z", "x", [2, 3]]],
    shape: "{prompt, all_generated_responses, all_rm_scores}",
  },
  {
    name: "UltraFeedback",
    row: {
      source: "s",
      instruction: "q",
      completions: [{ response: "x", overall_score: 3 }, { response: "y", overall_score: 7.5 }],
    },
    made: [[[user("q")], "y", "x"]],
    shape: "{instruction, completions}",
    unused: ["source"],
  },
  {
    name: "UltraFeedback binarized by argilla",
    row: { instruction: "q", chosen_response: "c", rejected_response: "r" },
    made: [[[user("q")], "c", "r"]],
    shape: "{instruction, chosen_response, rejected_response}",
  },
  {
    name: "PKU-SafeRLHF",
    row: { prompt: "p", response_0: "x", response_1: "y", better_response_id: 1 },
    made: [["p", "y", "x"]],
    shape: "{prompt, response_0, response_1, better_response_id}",
  },
  {
    name: "a conversation beside a worse answer",
    row: { messages: turns, rejected_response: "r" },
    made: [[[user("q")], [assistant("a")], "r"]],
    shape: "{messages, rejected_response}",
  },
  {
    name: "OpenAI's preferences",
    row: {
      input: { messages: [user("q")], tools: [], parallel_tool_calls: true },
      preferred_output: [assistant("c")],
      non_preferred_output: [assistant("r")],
    },
    made: [[[user("q")], [assistant("c")], [assistant("r")]]],
    shape: "{input, preferred_output, non_preferred_output}",
  },
  {
    name: "UltraFeedback, with what was said of each answer",
    row: {
      instruction: "q",
      completions: [{ response: "x", overall_score: 3, custom_system_prompt: "s", critique: "c" }, {
        response: "y",
        overall_score: 7.5,
      }],
    },
    made: [[[user("q")], "y", "x"]],
    shape: "{instruction, completions}",
    unused: ["completions[].custom_system_prompt", "completions[].critique"],
  },
  {
    name: "MT-Bench's judgments of a first turn",
    row: {
      model_a: "m",
      winner: "model_b",
      conversation_a: [...turns, user("q2"), assistant("a2")],
      conversation_b: [user("q"), assistant("b"), user("q2"), assistant("b2")],
      turn: 1,
    },
    made: [[[user("q")], [assistant("b")], [assistant("a")]]],
    shape: "{winner, turn, conversation_a, conversation_b}",
    unused: ["model_a"],
  },
  {
    name: "webgpt_comparisons",
    row: {
      question: { dataset: "eli5", full_text: "q" },
      answer_0: "x",
      answer_1: "y",
      score_0: -0.5,
      score_1: 0.5,
      quotes_0: { title: ["t"] },
    },
    made: [[[user("q")], "y", "x"]],
    shape: "{question, answer_0, answer_1, score_1, score_0}",
    unused: ["quotes_0", "question.dataset"],
  },
  {
    name: "summarize_from_feedback",
    options: { columns: { prompt: "info.post" } },
    row: {
      info: { id: "1", post: "p" },
      summaries: [{ text: " x", policy: "sup" }, { text: " y", policy: "ref" }],
      choice: 1,
    },
    made: [["p", " y", " x"]],
    shape: "{prompt: info.post, summaries, choice}",
    unused: ["info", "summaries[].policy"],
  },
  {
    name: "stack-exchange-preferences",
    row: {
      qid: 1,
      question: "q",
      answers: [{ text: "x", pm_score: 1, author: "u" }, { text: "y", pm_score: 3 }, {
        text: "z",
        pm_score: 2,
      }],
    },
    made: [[[user("q")], "y", "x", [1, 3]]],
    shape: "{question, answers}",
    unused: ["answers[].author"],
  },
  {
    name: "answers with ranks beside them",
    row: { prompt: "p", answers: ["x", "y"], ranks: [2, 1] },
    made: [["p", "y", "x"]],
    shape: "{prompt, answers, ranks}",
  },
  {
    name: "ms-swift's worse answers",
    row: { system: "s", query: "q", response: "c", rejected_response: "r", history: [["h", "k"]] },
    made: [[[system("s"), user("h"), assistant("k"), user("q")], "c", "r"]],
    shape: "{system, query, history, response, rejected_response}",
  },
  {
    name: "one message object",
    row: { prompt: [user("q")], chosen: assistant("c"), rejected: assistant("r") },
    made: [[[user("q")], [assistant("c")], [assistant("r")]]],
    shape: "{prompt, chosen, rejected}",
  },
  {
    name: "turns as JSON text",
    row: { chosen: JSON.stringify(turns), rejected: JSON.stringify([user("q"), assistant("b")]) },
    made: [[[user("q")], [assistant("a")], [assistant("b")]]],
    shape: "{chosen, rejected}, chosen as JSON text, rejected as JSON text",
  },
  {
    name: "several worse answers, all pairs",
    options: { pairs: "all" },
    row: { prompt: "p", chosen: ["c"], rejected: ["r", "s"] },
    made: [["p", "c", "r", [1, 2]], ["p", "c", "s", [1, 2]]],
    shape: "{prompt, chosen, rejected}",
  },
  {
    name: "columns said by the user",
    options: { columns: { prompt: "data.frage", chosen: "gut", rejected: "schlecht" } },
    row: { data: { frage: "q" }, gut: "c", schlecht: "r", chosen: "other" },
    made: [["q", "c", "r"]],
    shape: "{prompt: data.frage, chosen: gut, rejected: schlecht}",
    unused: ["data", "chosen"],
  },
  {
    name: "texts that begin with the prompt, by the user's word",
    options: { columns: { prompt: null } },
    row: { id: "7", chosen: "Q: hi A: yes", rejected: "Q: hi A: no" },
    made: [["Q: hi A:", " yes", " no"]],
    shape: "{chosen, rejected}, the prompt is what both begin with",
    unused: ["id"],
  },
];

const sft: readonly Case[] = [
  {
    name: "prompt and completion",
    row: { prompt: "p", completion: "c" },
    made: [["p", "c"]],
    shape: "{prompt, completion}",
  },
  { name: "plain text", row: { text: "t", url: "u" }, made: [["", "t"]], shape: "{text}", unused: ["url"] },
  {
    name: "messages",
    row: { messages: [user("q"), assistant("a"), user("q2"), assistant("b")] },
    made: [[[user("q"), assistant("a"), user("q2")], [assistant("b")]]],
    shape: "{messages}, its last answer",
  },
  {
    name: "turns of weight 0",
    row: {
      messages: [user("q"), { ...assistant("a"), weight: 1 }, user("q2"), { ...assistant("b"), weight: 0 }],
    },
    made: [[[user("q")], [assistant("a")]]],
    shape: "{messages}, its last answer",
  },
  {
    name: "ShareGPT",
    row: { system: "s", conversations: [{ from: "human", value: "q" }, { from: "gpt", value: "a" }] },
    made: [[[system("s"), user("q")], [assistant("a")]]],
    shape: "{system, conversations}, its last answer",
  },
  {
    name: "alpaca",
    row: { instruction: "Add.", input: "1 2", output: "3" },
    made: [[[user("Add.\n1 2")], "3"]],
    shape: "{instruction, input, output}",
  },
  {
    name: "question and answer",
    row: { question: "q", answer: "a" },
    made: [[[user("q")], "a"]],
    shape: "{question, answer}",
  },
  {
    name: "Dolly",
    row: { instruction: "q", context: "ctx", response: "a", category: "c" },
    made: [[[user("q\nctx")], "a"]],
    shape: "{instruction, context, response}",
    unused: ["category"],
  },
  {
    name: "FLAN",
    row: { inputs: "q", targets: "a", task_source: "s" },
    made: [[[user("q")], "a"]],
    shape: "{inputs, targets}",
    unused: ["task_source"],
  },
  {
    name: "alpaca, with its text in whole",
    row: { instruction: "q", input: "", output: "a", text: "Below is an instruction. q ### Response: a" },
    made: [[[user("q")], "a"]],
    shape: "{instruction, input, output}",
    unused: ["text"],
  },
  {
    name: "Magpie and NuminaMath, whose conversation says the same",
    row: { problem: "q", solution: "a", messages: turns },
    made: [[[user("q")], [assistant("a")]]],
    shape: "{messages}, its last answer",
    unused: ["problem", "solution"],
  },
  {
    name: "Bedrock's and Cohere's turns",
    row: {
      messages: [{ role: "User", content: [{ text: "q" }] }, { role: "Chatbot", content: [{ text: "a" }] }],
    },
    made: [[[user("q")], [assistant("a")]]],
    shape: "{messages}, its last answer",
  },
  {
    name: "answers of several turns",
    row: { messages: [user("q"), assistant("a"), assistant("b")] },
    made: [[[user("q")], [assistant("a"), assistant("b")]]],
    shape: "{messages}, its last answer",
  },
  {
    name: "LLaMA-Factory's KTO rows, undesirable",
    row: { conversations: [{ from: "human", value: "q" }, { from: "gpt", value: "a" }], kto_tag: false },
    made: [],
    shape: "{conversations, kto_tag}, its last answer",
  },
  {
    name: "KTO's rows, desirable",
    row: { prompt: "p", completion: "c", label: true },
    made: [["p", "c"]],
    shape: "{prompt, label, completion}",
  },
  {
    name: "KTO's rows, undesirable",
    row: { prompt: "p", completion: "c", label: "false" },
    made: [],
    shape: "{prompt, label, completion}",
  },
];

function shortly({ comparisons }: RowReading): unknown[][] {
  return comparisons.map((
    { prompt, responses, ranks },
  ) => [prompt, ...responses, ...ranks === undefined ? [] : [ranks]]);
}

for (const [kind, cases] of Object.entries({ preference, sft })) {
  for (const { name, options, row, made, shape, unused = [] } of cases) {
    Deno.test(`readRow() takes ${name} for ${kind}`, () => {
      const reading = readRow(row, 1, { kind: kind as RowOptions["kind"], ...options });
      assert.deepEqual(shortly(reading), made);
      assert.equal(reading.shape, shape);
      assert.deepEqual(reading.unused, unused);
      assert.equal(reading.skipped !== undefined, made.length === 0);
    });
  }
}

function refused(row: unknown, message: RegExp, field: string, options: Partial<RowOptions> = {}) {
  assert.throws(() => readRow(row, 1, { kind: "preference", ...options }), (error) => {
    assert(error instanceof InputError);
    assert.match(error.message, message);
    assert.equal(error.field, field);
    return true;
  });
}

Deno.test("readRow() names both readings where columns fit two shapes", () => {
  refused(
    { prompt: "p", question: "q", chosen: "c", rejected: "r" },
    /prompt from prompt or from question/,
    "body",
  );
  refused(
    { prompt: "p", input: "i", chosen: "c", rejected: "r" },
    /prompt from prompt or from input/,
    "body",
  );
  refused(
    { prompt: "p", chosen: "c", rejected: "r", response_1: "c", response_2: "r", preference_strength: 1 },
    /\{chosen, rejected\} or as \{response_1, response_2, preference_strength\}/,
    "body",
  );
  refused({ instruction: "a", output: "b", text: "c" }, /completion from output or from text/, "body", {
    kind: "sft",
  });
  // what says the same is no second reading, and the user's word decides
  const row = { prompt: "p", question: "q", chosen: "c", rejected: "r" };
  assert.equal(readRow({ ...row, question: "p" }, 1, { kind: "preference" }).comparisons[0]?.prompt, "p");
  const { comparisons, unused } = readRow(row, 1, { kind: "preference", columns: { question: "question" } });
  assert.deepEqual(comparisons[0]?.prompt, [user("q")]);
  assert.deepEqual(unused, ["prompt"]);
});

Deno.test("readRow() refuses to guess a prompt where other columns hold text", () => {
  refused({ frage: "q", chosen: "The a", rejected: "The b" }, /no column known as the prompt.*frage/, "body");
  refused(
    { prompt: "", frage: "q", chosen: "a", rejected: "b" },
    /is empty, and other columns hold text: frage/,
    "prompt",
  );
  refused({ chosen: "a", rejected: "b" }, /do not begin alike; the columns are chosen, rejected/, "prompt");
  refused(
    { system: "s", chosen: "a", rejected: "b" },
    /prompt is empty; the row's columns are system/,
    "prompt",
  );
  refused({ frage: "q", completion: "a" }, /no column known as the prompt.*frage/, "body", { kind: "sft" });
  refused({ prompt: [], chosen: "a", rejected: "b" }, /an empty list/, "prompt");
  assert.equal(
    readRow({ prompt: "", chosen: "a", rejected: "b" }, 1, { kind: "preference" }).comparisons[0]?.prompt,
    "",
  );
});

Deno.test("readRow() names the method that reads rows of another kind", () => {
  refused({ prompt: "p", completion: "c", label: true }, /a row of method kto, or of sft/, "body");
  refused({ prompt: "p", chosen: "c", rejected: "r" }, /a row of method simpo/, "body", { kind: "sft" });
});

Deno.test("readRow() hands tools and template variables on, be they JSON text", () => {
  const tools = [{ type: "function", function: { name: "f" } }];
  const row = { prompt: [user("q")], chosen: "c", rejected: "r" };
  const read = (extra: object) => readRow({ ...row, ...extra }, 1, { kind: "preference" }).comparisons[0];
  assert.deepEqual(read({ tools })?.tools, tools);
  assert.deepEqual(read({ tools: JSON.stringify(tools) })?.tools, tools);
  assert.equal(read({ tools: "" })?.tools, undefined);
  assert.equal(read({ tools: "[]" })?.tools, undefined);
  assert.deepEqual(read({ chat_template_kwargs: { enable_thinking: false } })?.chat_template_kwargs, {
    enable_thinking: false,
  });
  refused({ ...row, tools: "f(x)" }, /must be a list of functions/, "tools");
});

Deno.test("readRow() keeps a turn's tool calls, null content beside them, and says what a part that is no text is", () => {
  const calls = [{ type: "function", function: { name: "f", arguments: {} } }];
  const called = { role: "assistant", content: null, tool_calls: calls };
  const prompt = [user("q"), called, { role: "tool", content: "1", name: null }];
  const { comparisons } = readRow({ prompt, chosen: "c", rejected: "r" }, 1, { kind: "preference" });
  assert.deepEqual(comparisons[0]?.prompt, [user("q"), called, { role: "tool", content: "1" }]);
  const { comparisons: [shared] } = readRow(
    {
      conversations: [{ from: "human", value: "q" }, {
        from: "function_call",
        value: '{"name": "f", "arguments": {}}',
      }, { from: "observation", value: "1" }],
      chosen: { from: "gpt", value: "c" },
      rejected: { from: "gpt", value: "r" },
    },
    1,
    { kind: "preference" },
  );
  assert.deepEqual(shared?.prompt, [user("q"), { ...called, content: "" }, { role: "tool", content: "1" }]);
  const image = [{ role: "user", content: [{ type: "image_url", image_url: "x" }] }];
  refused(
    { prompt: image, chosen: "c", rejected: "r" },
    /a part of type "image_url"/,
    "prompt[0].content[0]",
  );
  refused(
    { prompt: [{ role: "assistant", content: null }], chosen: "c", rejected: "r" },
    /it is null/,
    "prompt[0].content",
  );
});

Deno.test("readRow() refuses turns as Python prints them, and leaves an answer that is JSON alone", () => {
  refused(
    { prompt: "p", chosen: "[{'role': 'assistant', 'content': 'c'}]", rejected: "r" },
    /as Python prints it/,
    "chosen",
  );
  const json = '[{"role": "admin", "name": "x"}]';
  assert.deepEqual(
    readRow({ prompt: "p", chosen: json, rejected: "r" }, 1, { kind: "preference" }).comparisons[0]
      ?.responses,
    [json, "r"],
  );
});

Deno.test("readRow() refuses a better answer of weight 0", () => {
  const chosen = [user("q"), { ...assistant("a"), weight: 0 }];
  refused({ chosen, rejected: [user("q"), assistant("b")] }, /weight 0/, "chosen");
});

Deno.test("readRow() refuses a conversation beside another answer, question or system text", () => {
  const sft = { kind: "sft" } as const;
  refused({ messages: turns, answer: "4" }, /completion from answer or from messages/, "body", sft);
  refused({ question: "q", solution: "s", answer: "4" }, /from answer or from solution/, "body", sft);
  refused({ system: "s", messages: [system("t"), ...turns] }, /own system turn/, "system", sft);
  refused(
    { messages: [user("q"), { ...assistant("a"), weight: 0 }, assistant("b")] },
    /weight 0/,
    "messages",
    sft,
  );
  const rejected = [user("q"), assistant("b")];
  refused({ prompt: [user("other")], chosen: turns, rejected }, /begins with a turn of the user/, "chosen");
  assert.deepEqual(
    shortly(readRow({ system: "s", messages: [system("s"), ...turns] }, 1, sft)),
    [[[system("s"), user("q")], [assistant("a")]]],
  );
});

Deno.test("readRow() keeps two turns of the assistant apart, of which only the second differs", () => {
  const begun = [user("q"), assistant("a")];
  const row = { chosen: [...begun, assistant("c")], rejected: [...begun, assistant("r")] };
  assert.deepEqual(shortly(readRow(row, 1, { kind: "preference" })), [
    [[user("q")], [assistant("a"), assistant("c")], [assistant("a"), assistant("r")]],
  ]);
});

Deno.test("readRow() reads labels and weights as text and numbers, and refuses other labels", () => {
  const made = (row: object) => readRow(row, 1, { kind: "sft" }).comparisons.length;
  const row = { prompt: "p", completion: "c" };
  for (const label of [true, 1, "True", "1.0", "TRUE"]) {
    assert.equal(made({ ...row, label }), 1, String(label));
  }
  for (const label of [false, 0, "False", "0.0", "FALSE"]) {
    assert.equal(made({ ...row, label }), 0, String(label));
  }
  for (const label of [null, "", "toxic", 2, []]) {
    refused({ ...row, label }, /label must say.*\{"label": null\}/, "label", { kind: "sft" });
  }
  assert.equal(
    readRow({ ...row, label: "toxic" }, 1, { kind: "sft", columns: { label: null } }).comparisons.length,
    1,
  );
  refused(
    { messages: [user("q"), { ...assistant("a"), weight: "0" }] },
    /must hold an assistant/,
    "messages",
    {
      kind: "sft",
    },
  );
});

Deno.test("readRow() takes a dialogue beside other texts, and refuses deep values by name", () => {
  const row = {
    chosen: "\n\nHuman: q\n\nAssistant: a",
    rejected: "\n\nHuman: q\n\nAssistant: b",
    source: "s",
  };
  assert.equal(readRow(row, 1, { kind: "preference" }).comparisons[0]?.prompt, "\n\nHuman: q\n\nAssistant:");
  const deep = `${"[".repeat(20_000)}${"]".repeat(20_000)}`;
  const plain = { prompt: [user("q")], chosen: "c", rejected: "r" };
  for (
    const extra of [{ other: JSON.parse(deep) }, { tools: `[{"a":${deep}}]` }, {
      chat_template_kwargs: `{"a":${deep}}`,
    }]
  ) {
    refused({ ...plain, ...extra }, /is nested deeper than 100 levels/, "body");
  }
});

Deno.test("readRow() refuses a row whose prompt is null or empty, and does not make one of the answers", () => {
  const answers = { chosen: "The cat sat", rejected: "The cat ran" };
  refused(
    { prompt: null, ...answers },
    /^prompt is null; the row's columns are chosen, rejected\.$/,
    "prompt",
  );
  refused({ question: null, ...answers }, /^question is null/, "question");
  refused(
    { response_a: "The cat sat", response_b: "The cat ran", winner: "Response_B" },
    /^prompt is missing; the columns are response_a, response_b, winner\.$/,
    "prompt",
  );
  const sft = { kind: "sft" } as const;
  refused({ prompt: null, completion: "c" }, /^prompt is null/, "prompt", sft);
  refused({ instruction: null, output: "c" }, /^instruction is null/, "instruction", sft);
  refused({ instruction: " ", input: "", output: "c" }, /^prompt is empty/, "prompt", sft);
  refused({ prompt: [], completion: "c" }, /^prompt is empty/, "prompt", sft);
  refused({ messages: [assistant("a")] }, /^messages has no turn before its answer/, "messages", sft);
  const none = { kind: "sft", columns: { prompt: null } } as const;
  assert.deepEqual(shortly(readRow({ prompt: null, completion: "c" }, 1, none)), [["", "c"]]);
  const dialogue = {
    prompt: null,
    chosen: "\n\nHuman: q\n\nAssistant: a",
    rejected: "\n\nHuman: q\n\nAssistant: b",
  };
  assert.deepEqual(shortly(readRow(dialogue, 1, { kind: "preference" })), [[
    "\n\nHuman: q\n\nAssistant:",
    " a",
    " b",
  ]]);
});

Deno.test("readRow() reads turns in every spelling alike", () => {
  const spellings: unknown[] = [
    [{ from: "user", content: "q" }, { role: "assistant", value: "a" }],
    { role: ["user", "assistant"], content: ["q", "a"] },
    { from: ["human", "gpt"], value: ["q", "a"], weight: null },
    '[{"content": "q", "role": "user"}, {"train": true, "role": "assistant", "content": "a"}]',
    [{ role: "user", content: [{ type: "input_text", text: "q" }] }, {
      role: "assistant",
      content: [{ type: "output_text", text: "a" }],
    }],
  ];
  for (const messages of spellings) {
    assert.deepEqual(
      shortly(readRow({ messages }, 1, { kind: "sft" })),
      [[[user("q")], [assistant("a")]]],
      JSON.stringify(messages),
    );
  }
  const indexed = (content: string) => JSON.stringify([{ index: 0, ...user("q") }, assistant(content)]);
  assert.deepEqual(
    shortly(readRow({ chosen: indexed("a"), rejected: indexed("b") }, 1, { kind: "preference" })),
    [[[{ index: 0, ...user("q") }], [assistant("a")], [assistant("b")]]],
  );
  refused(
    { prompt: "p", chosen: "[{'index': 0, 'role': 'assistant', 'content': 'c'}]", rejected: "r" },
    /as Python prints it/,
    "chosen",
  );
  refused(
    { prompt: "p", chosen: ["c", 1], rejected: "r" },
    /^chosen\[0\] must be a message, not string "c"/,
    "chosen[0]",
  );
  // Lists of strings may be turns, and an answer may be a dict.
  refused({ prompt: "p", chosen: ["q", "a"], rejected: ["q", "b"] }, /must be a message/, "chosen[0]");
  refused({ chosen: "q a", rejected: ["q b", "q c"] }, /must be a message/, "rejected[0]");
  for (const chosen of ["{'x': 1, 'role': 'user'}", "[{'name': 'A', 'role': 'admin', 'content': ''}]"]) {
    assert.deepEqual(
      shortly(readRow({ prompt: "p", chosen, rejected: "r" }, 1, { kind: "preference" })),
      [["p", chosen, "r"]],
    );
  }
  refused({ prompt: "p", chosen: "c", rejected: NaN }, /not number NaN/, "rejected");
});

Deno.test("readRow() keeps calls that are JSON text or a function_call, and leaves turns out of the loss by any name", () => {
  const call = { name: "f", arguments: "{}" };
  const calls = [{ type: "function", function: call }];
  const made = (turn: Record<string, unknown>) =>
    readRow({ messages: [user("q"), turn] }, 1, { kind: "sft" }).comparisons[0]?.responses[0];
  assert.deepEqual(made({ role: "assistant", content: null, tool_calls: JSON.stringify(calls) }), [
    { role: "assistant", content: null, tool_calls: calls },
  ]);
  assert.deepEqual(made({ role: "assistant", content: "", function_call: call }), [
    { role: "assistant", content: "", tool_calls: calls },
  ]);
  const sft = { kind: "sft" } as const;
  refused(
    { messages: [user("q"), { ...assistant("a"), tool_calls: "f()" }] },
    /must be a list of calls/,
    "messages[1].tool_calls",
    sft,
  );
  for (const name of ["weight", "train", "loss"]) {
    refused(
      { messages: [user("q"), { ...assistant("a"), [name]: false }] },
      /must hold an assistant turn/,
      "messages",
      sft,
    );
  }
});

Deno.test("readRow() reads tools of which each is JSON text, and refuses others by their index", () => {
  const tool = { type: "function", function: { name: "f" } };
  const row = { prompt: "q", chosen: "c", rejected: "r" };
  const options = { kind: "preference" } as const;
  const [read] = readRow({ ...row, tools: [JSON.stringify(tool), tool] }, 1, options).comparisons;
  assert.deepEqual(read?.tools, [tool, tool]);
  refused(
    { ...row, tools: ["f(x)"] },
    /^tools\[0\] must be a function as a JSON schema, not string "f/,
    "tools[0]",
  );
});

Deno.test("readRow() names both of two conversations that end with different answers", () => {
  const row = { messages: [user("q"), assistant("a")], conversations: [user("q"), assistant("b")] };
  refused(row, /completion from messages or from conversations/, "body", { kind: "sft" });
  const same = { messages: row.messages, conversations: row.messages };
  assert.deepEqual(shortly(readRow(same, 1, { kind: "sft" })), [[[user("q")], [assistant("a")]]]);
});

Deno.test("docs/data.md's tables of shapes have a line for every case above, and no other", async () => {
  const text = await Deno.readTextFile(new URL("../../docs/data.md", import.meta.url));
  const named = [...text.slice(text.indexOf("## Shapes")).matchAll(/^\| ([^|]+?) +\| `(\{[^`]*)`/gm)]
    .map((match) => [match[1], match[2]]);
  assert.deepEqual(named, [...preference, ...sft].map(({ name, shape }) => [name, shape]));
});
