import assert from "node:assert/strict";
import { readTemplates } from "../../src/preference/template_files.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { byteLevel, chatml, llama2, llama3, load, sentencepiece, withFiles } from "./_tokenizers.ts";

Deno.test("encode() adds no special token and knows those written out", () => {
  assert.deepEqual(llama3.encode("A<eot>"), [65, 259]);
  assert.deepEqual(llama2.encode("</s>"), [2]);
  assert.deepEqual(llama2.encode(""), []);
});

Deno.test("decode() gives back text, special tokens and punctuation as they were, and nothing for nothing", () => {
  for (const text of ["do n't , ab", "héllo \u{1F600}<eot>"]) {
    assert.equal(llama3.decode(llama3.encode(text)), text);
  }
  assert.equal(llama2.decode(llama2.encode("ab ü")), "ab ü");
  assert.equal(llama3.decode([]), "");
  assert.equal(llama3.decode(Uint32Array.of(72, 105)), "Hi");
});

Deno.test("token() keeps a token's leading space and gives nothing for an unknown id", () => {
  assert.deepEqual(llama2.encode("ab a").map((id) => llama2.token(id)), [" a", "b", " a"]);
  assert.equal(llama3.token(32), " ");
  assert.equal(llama3.token(9999), "");
});

Deno.test("loadTokenizer() finds BOS and every end", () => {
  assert.deepEqual([llama3.bos, llama3.addBos, llama3.eosId, llama3.eos], [256, true, 260, [260, 259]]);
  assert.deepEqual([llama2.bos, llama2.addBos, llama2.eosId, llama2.eos], [1, true, 2, [2]]);
  assert.deepEqual([chatml.bos, chatml.addBos, chatml.eosId, chatml.eos], [null, false, 259, [259]]);
  assert.equal(chatml.vocabSize, 260);
});

Deno.test("loadTokenizer() lets add_bos_token decide over the post-processor", async () => {
  const config = { bos_token: "<s>", eos_token: "</s>" };
  const files = { "tokenizer.json": sentencepiece(), "tokenizer_config.json": config };
  assert.equal((await load(files)).addBos, true);
  assert.equal(
    (await load({ ...files, "tokenizer_config.json": { ...config, add_bos_token: false } })).addBos,
    false,
  );
  const bare = {
    "tokenizer.json": byteLevel([], ["<bos>"]),
    "tokenizer_config.json": { bos_token: "<bos>" },
  };
  assert.equal((await load(bare)).addBos, false);
});

Deno.test("loadTokenizer() prefers chat_template.jinja, then the template named default", async () => {
  const json = { "tokenizer.json": byteLevel([], ["<e>"]) };
  const named = [{ name: "tool_use", template: "tools" }, { name: "default", template: "named" }];
  const config = { "tokenizer_config.json": { chat_template: named } };
  assert.equal((await load({ ...json, ...config })).chatTemplate, "named");
  assert.equal((await load({ ...json, ...config, "chat_template.jinja": "file" })).chatTemplate, "file");
  assert.equal((await load(json)).chatTemplate, null);
});

Deno.test("withChatTemplate() puts another template in the model's place, and leaves the tokenizer as it was", () => {
  const turns = [{ role: "user", content: "q" }];
  const options = { addGenerationPrompt: false };
  const other = llama3.withChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}");
  assert.equal(other.renderChat(turns, options), "<bos>q<end>");
  assert.deepEqual([other.eosId, other.encode("A<eot>")], [llama3.eosId, llama3.encode("A<eot>")]);
  assert.equal(llama3.renderChat(turns, options), "<bos><h>user</h>\nq<eot>");
  assert.equal(llama3.withChatTemplate(null), llama3);
});

Deno.test("renderChat() gives the template messages, special tokens and the generation prompt", () => {
  const messages = [{ role: "user", content: " q " }];
  assert.equal(
    llama3.renderChat(messages, { addGenerationPrompt: true }),
    "<bos><h>user</h>\nq<eot><h>assistant</h>\n",
  );
  assert.equal(
    chatml.renderChat(messages, { addGenerationPrompt: false }),
    "<|im_start|>user\n q <|im_end|>\n",
  );
});

Deno.test("renderChat() hides the clock, so that a template says the same tomorrow", async () => {
  const template = "{{ strftime_now('%d %b %Y') if strftime_now is defined else 'none' }}";
  const tokenizer = await load({ "tokenizer.json": byteLevel([], ["<e>"]), "chat_template.jinja": template });
  const turns = [{ role: "user", content: "q" }];
  assert.equal(tokenizer.renderChat(turns, { addGenerationPrompt: false }), "26 Jul 2024");
  const kwargs = { strftime_now: "2026-01-02" };
  assert.equal(tokenizer.renderChat(turns, { addGenerationPrompt: false, kwargs }), "02 Jan 2026");
});

Deno.test("renderChat() gives a template all special tokens that the files name, and none that they do not", async () => {
  const tokenizer = await load({
    "tokenizer.json": byteLevel([], ["<e>"]),
    "tokenizer_config.json": {
      added_tokens_decoder: {},
      eos_token: { content: "<e>" },
      sep_token: "<sep>",
      image_token: "<img>",
      bos_token: null,
      extra_special_tokens: { audio: "<audio>" },
      chat_template: "{{ [eos_token, sep_token, image_token, audio, bos_token is defined] }}",
    },
  });
  assert.equal(
    tokenizer.renderChat([{ role: "user", content: "q" }], { addGenerationPrompt: false }),
    "['<e>', '<sep>', '<img>', '<audio>', False]",
  );
});

Deno.test("renderChat() chooses among named templates as transformers does, and withChatTemplate() takes a name", async () => {
  const json = { "tokenizer.json": byteLevel([], ["<e>"]) };
  const list = ["default", "tool_use", "rag"].map((name) => ({ name, template: `{{ '${name}' }}` }));
  const turns = [{ role: "user", content: "q" }];
  const options = { addGenerationPrompt: false };
  const fromList = await load({ ...json, "tokenizer_config.json": { chat_template: list } });
  const files = list.slice(1).map((
    { name, template },
  ) => [`additional_chat_templates/${name}.jinja`, template]);
  const fromFiles = await load({
    ...json,
    "chat_template.jinja": list[0]!.template,
    ...Object.fromEntries(files),
  });
  for (const tokenizer of [fromList, fromFiles]) {
    assert.equal(tokenizer.renderChat(turns, options), "default");
    assert.equal(tokenizer.renderChat(turns, { ...options, tools: [] }), "tool_use");
    assert.equal(tokenizer.withChatTemplate("rag").renderChat(turns, { ...options, tools: [] }), "rag");
    assert.equal(tokenizer.withChatTemplate("rag").chatTemplate, "{{ 'rag' }}");
    assert.equal(tokenizer.withChatTemplate("{{ 'other' }}").renderChat(turns, options), "other");
    assert.throws(() => tokenizer.withChatTemplate("tool_uze"), {
      name: "InputError",
      message: /^chat_template "tool_uze" is neither Jinja source nor one of the model's\.$/,
    });
  }
  const neither = await load({ ...json, "tokenizer_config.json": { chat_template: list.slice(2) } });
  assert.throws(() => neither.renderChat(turns, options), {
    name: "InputError",
    message: /none is the default; name one of rag/,
  });
});

Deno.test("readTemplates() reads what an adapter keeps: chat_template.jinja, tokenizer_config.json, chat_template.json", async () => {
  const folder = await Deno.makeTempDir();
  const write = (name: string, content: string) => Deno.writeTextFile(`${folder}/${name}`, content);
  try {
    assert.equal(await readTemplates(folder), null);
    await write("chat_template.json", JSON.stringify({ chat_template: "legacy" }));
    assert.equal((await readTemplates(folder))?.get("default"), "legacy");
    await write("tokenizer_config.json", JSON.stringify({ eos_token: "<e>" }));
    assert.equal((await readTemplates(folder))?.get("default"), "legacy");
    await write(
      "tokenizer_config.json",
      JSON.stringify({ chat_template: [{ name: "default", template: "config" }] }),
    );
    assert.equal((await readTemplates(folder))?.get("default"), "config");
    await write("chat_template.jinja", "file");
    assert.equal((await readTemplates(folder))?.get("default"), "file");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("renderChat() says which bound a template passes", async () => {
  const tokenizer = await load({
    "tokenizer.json": byteLevel([], ["<e>"]),
    "chat_template.jinja": "{{ 'a' * 10**9 }}",
  });
  assert.throws(
    () => tokenizer.renderChat([{ role: "user", content: "q" }], { addGenerationPrompt: false }),
    {
      name: "InputError",
      message: /^The chat template is stopped: it makes texts and lists of more than \d+ bytes in all\.$/,
    },
  );
});

Deno.test("renderChat() says so where there is no template or it refuses the turns", async () => {
  const plain = await load({ "tokenizer.json": byteLevel([], ["<e>"]) });
  const turn = [{ role: "assistant", content: "a" }];
  assert.throws(() => plain.renderChat(turn, { addGenerationPrompt: false }), {
    name: "InputError",
    message: /no chat template/,
  });
  assert.throws(() => llama2.renderChat(turn, { addGenerationPrompt: false }), {
    name: "InputError",
    message: /roles must alternate/,
  });
});

Deno.test("loadTokenizer() names the file that is missing, broken or of no use", async () => {
  const refused = (files: Record<string, unknown>, message: RegExp) =>
    assert.rejects(withFiles(files, loadTokenizer), { name: "InputError", message });
  await refused({}, /no tokenizer\.json/);
  await refused({ "tokenizer.json": "{" }, /^tokenizer\.json is not JSON/);
  await refused({ "tokenizer.json": "[]" }, /^tokenizer\.json holds \[\], not a JSON object/);
  await refused({ "tokenizer.json": "{}" }, /^tokenizer\.json: model nothing is no model known here/);
  for (const id of [[1], 0.5, -1, "1"]) {
    const tokenizer = structuredClone(byteLevel([], [])) as { model: { vocab: Record<string, unknown> } };
    tokenizer.model.vocab.d = id;
    await refused(
      { "tokenizer.json": tokenizer },
      /^tokenizer\.json: model cannot be used: a token has the id /,
    );
  }
  await refused(
    { "tokenizer.json": byteLevel([], []), "tokenizer_config.json": "no" },
    /^tokenizer_config\.json/,
  );
});
