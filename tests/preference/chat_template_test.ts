import assert from "node:assert/strict";
import { templatesOf } from "../../src/preference/template_files.ts";
import { ChatTemplate, chooseTemplate, templateDate } from "../../src/preference/chat_template.ts";

const render = (source: string, chat: Partial<Parameters<ChatTemplate["render"]>[0]> = {}) =>
  new ChatTemplate(source).render({ messages: [], addGenerationPrompt: false, ...chat });

Deno.test("render() gives a template what apply_chat_template gives it, tools and documents as None", () => {
  const names = "messages, add_generation_prompt, tools, documents, bos_token, eos_token";
  assert.equal(
    render(`{{ [${names}] }}`, {
      messages: [{ role: "user", content: "q" }],
      addGenerationPrompt: true,
      specialTokens: { bos_token: "<s>" },
    }),
    "[[{'role': 'user', 'content': 'q'}], True, None, None, '<s>', Undefined]",
  );
});

Deno.test("render() takes further variables, also in place of special tokens, tools and documents", () => {
  const kwargs = { eos_token: "<own>", enable_thinking: false, documents: [{ title: "a" }], tools: [1] };
  assert.equal(
    render("{{ [eos_token, enable_thinking, documents, tools] }}", {
      specialTokens: { eos_token: "</s>" },
      kwargs,
    }),
    "['<own>', False, [{'title': 'a'}], [1]]",
  );
});

for (const name of ["messages", "add_generation_prompt"]) {
  Deno.test(`render() refuses ${name} as a further variable`, () => {
    assert.throws(() => render("", { kwargs: { [name]: true } }), {
      name: "InputError",
      message: `chat_template_kwargs.${name} cannot be set: the conversation gives it.`,
    });
  });
}

Deno.test("render() leaves null fields of turns out, and gives reasoning the names that templates read", () => {
  const messages = [
    { role: "assistant", content: null, tool_calls: null },
    { role: "assistant", reasoning: "r" },
    { role: "assistant", thinking: "t", reasoning_content: "r" },
  ];
  assert.equal(
    render("{{ messages }}", { messages }),
    "[{'role': 'assistant'}, {'thinking': 'r', 'role': 'assistant', 'reasoning': 'r', 'reasoning_content': 'r'}, " +
      "{'thinking': 't', 'role': 'assistant', 'reasoning_content': 'r'}]",
  );
});

Deno.test("render() writes the same date every day, or the one that is asked for", () => {
  const source = "{{ strftime_now('%Y-%m-%d') }}{{ strftime_now('T%H:%M') }}";
  assert.equal(render(source), `${templateDate}T00:00`);
  assert.equal(render(source, { kwargs: { strftime_now: "2031-12-24" } }), "2031-12-24T00:00");
  assert.equal(render(source, { kwargs: { strftime_now: "2031-12-24T18:30" } }), "2031-12-24T18:30");
  for (const strftime_now of ["today", "2031-13-01", 5, null]) {
    assert.throws(() => render(source, { kwargs: { strftime_now } }), {
      message: /^chat_template_kwargs\.strftime_now must be a date/,
    });
  }
});

Deno.test("render() passes on what the template raises", () => {
  assert.throws(() => render("{{ raise_exception('roles') }}"), { message: "roles" });
});

Deno.test("templatesOf() reads one source and lists of names with theirs", () => {
  assert.deepEqual([...templatesOf("a")!], [["default", "a"]]);
  const list = [
    { name: "default", template: "a" },
    { name: "tool_use", template: "b" },
    { name: "broken" },
    5,
  ];
  assert.deepEqual([...templatesOf(list)!], [["default", "a"], ["tool_use", "b"]]);
  for (const nothing of [null, undefined, 5, [], [{}]]) assert.equal(templatesOf(nothing), null);
});

Deno.test("chooseTemplate() takes tool_use where there are tools, else the default", () => {
  const both = new Map([["default", "a"], ["tool_use", "b"]]);
  assert.deepEqual([null, undefined, [], [{}]].map((tools) => chooseTemplate(both, tools)), [
    "a",
    "a",
    "b",
    "b",
  ]);
  assert.equal(chooseTemplate(new Map([["default", "a"]]), [{}]), "a");
  const neither = new Map([["rag", "a"], ["chat", "b"]]);
  assert.throws(() => chooseTemplate(neither, null), {
    name: "InputError",
    message: "The model has several chat templates and none is the default; name one of chat, rag.",
  });
});
