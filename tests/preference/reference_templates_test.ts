/** Templates of 65 kinds of models, and small ones, against Jinja2 as transformers calls it: tests/reference/make_templates.py. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { ChatTemplate, templateDate } from "../../src/preference/chat_template.ts";
import { Template, TemplateError } from "../../src/preference/jinja/mod.ts";

const REFERENCE = new URL("../reference/", import.meta.url);
const text = (name: string) => Deno.readTextFileSync(new URL(name, REFERENCE));
const json = (name: string) => JSON.parse(text(`values/templates/${name}.json`));

interface ReferenceChat {
  readonly messages: readonly object[];
  readonly add_generation_prompt: boolean;
  /** Which of the lists. */
  readonly tools?: number;
  readonly kwargs?: Record<string, unknown>;
}

const chats: readonly ReferenceChat[] = json("chats");
const variables = json("variables");
/** Conversations in a digest. */
const GROUP = 10;
/** Hexadecimal digits of one. */
const DIGITS = 8;

/** What a template makes of a conversation, or that it refuses it. */
function marked(
  template: ChatTemplate,
  { messages, add_generation_prompt, tools, kwargs }: ReferenceChat,
): string {
  try {
    return `=${
      template.render({
        messages,
        addGenerationPrompt: add_generation_prompt,
        tools: tools === undefined ? null : variables.tools[tools],
        specialTokens: variables.special_tokens,
        kwargs,
      })
    }`;
  } catch (error) {
    if (!(error instanceof TemplateError) || error.name !== "TemplateError") throw error;
    return "!";
  }
}

for (const [name, digests] of Object.entries<string>(json("digests"))) {
  Deno.test(`render() gives what Jinja2 gives: ${name}`, () => {
    const template = new ChatTemplate(text(`templates/${name}.jinja`));
    const all = chats.map((chat) => marked(template, chat));
    for (let first = 0; first < all.length; first += GROUP) {
      const group = all.slice(first, first + GROUP).join("\0");
      const digest = createHash("sha256").update(group).digest("hex").slice(0, DIGITS);
      const at = first / GROUP * DIGITS;
      assert.equal(
        digest,
        digests.slice(at, at + DIGITS),
        `one of the conversations ${first} to ${first + GROUP - 1}`,
      );
    }
  });
}

Deno.test("render() prints what Jinja2 prints: small templates", () => {
  const now = new Date(templateDate);
  const snippets: [string, string | null][] = json("snippets");
  assert.ok(snippets.length >= 900);
  for (const [source, expected] of snippets) {
    let found: string | null = null;
    try {
      found = new Template(source).render(variables.snippets, { now });
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error;
    }
    assert.equal(found, expected, source);
  }
});
