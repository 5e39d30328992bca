"""Chat templates by Jinja2 as transformers calls it: what conversations and small templates are rendered as.

Writes values/templates/: chats.json (400 conversations), digests.json (for each of templates/*.jinja eight hexadecimal
digits a group of ten conversations) and snippets.json (small templates with what they print, null: refused).
"""

import hashlib
import json
import random
import sys
from datetime import datetime
from pathlib import Path

import transformers.utils.chat_template_utils as chat_template_utils
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import template_snippets

HERE = Path(__file__).parent
VALUES = HERE / "values" / "templates"
GROUP = 10
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "sep_token": "<sep>"}


class Fixed(datetime):
    """The day on which templates are rendered."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = Fixed

WORDS = (
    "the a sum of 2 and 40 is 42. Hello, World! def f(x): return x naïve Ünïcödé 你好 мир 😀 👩‍👩‍👧 e\u0301 İ ß ﬁ "
    "<b>bold</b> {{x}} {%y%} {#z#} \"quoted\" 'single' back\\slash \u2028 \ufeff \u00a0 \u0085 \u200b %s {0} $5 https://x.y/?q=1&r=2 "
    "/think /no_think <|im_end|> [INST] <tool_response> True None 1.0"
).split(" ")
ENDS = ["", "", "", "", " ", "\n", "  ", "\t", "\n\n", "\u00a0", ".", "!"]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather\nof a place.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "City & land"},
                    "unit": {"type": "string", "enum": ["°C", "°F"], "default": "°C"},
                    "days": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds <numbers>.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": ["number", "string"]}, "b": {"type": "number", "default": 1.5}},
                "required": ["a", "b"],
            },
            "return": {"type": "number"},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]
TOOL_LISTS = [TOOLS, TOOLS[:1], TOOLS[1:], []]
DOCUMENTS = [{"title": "One", "text": "First <text>."}, {"title": "Zwei", "text": "Zweiter\nText 😀"}]


def conversations():
    rng = random.Random(20240726)

    def text(most=7):
        if rng.random() < 0.07:
            return ""
        joint = rng.choice([" ", " ", " ", "\n", "  "])
        body = joint.join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))
        return rng.choice(ENDS) + body + rng.choice(ENDS)

    def calls():
        made = []
        for _ in range(rng.choice([1, 1, 1, 2])):
            arguments = rng.choice(
                [{"city": text(2), "days": [1, 2]}, {"a": 1, "b": 2.5}, {}, '{"city": "Rome"}', {"x": None, "y": True, "é": {"k": [text(1)]}}]
            )
            call = {"type": "function", "function": {"name": rng.choice(["get_weather", "add", "now"]), "arguments": arguments}}
            if rng.random() < 0.6:
                call["id"] = "%09d" % rng.randrange(10**9)
            made.append(call)
        return made

    def answer():
        turn = {"role": "assistant", "content": text()}
        kind = rng.random()
        if kind < 0.15:
            turn["content"] = f"<think>\n{text(4)}\n</think>\n\n{text(4)}"
        elif kind < 0.25:
            turn[rng.choice(["reasoning_content", "thinking", "reasoning"])] = text(4)
        elif kind < 0.3:
            turn["content"] = rng.choice(["    return 1", "\t- item", "\n\n", "   "])
        return turn

    def conversation():
        turns = []
        if rng.random() < 0.45:
            turns.append({"role": "system", "content": rng.choice([text(), "", "Be brief.", "Be brief. /no_think"])})
        with_tools = rng.random() < 0.35
        for _ in range(rng.choice([1, 1, 2, 2, 3])):
            turns.append({"role": "user", "content": text()})
            if with_tools and rng.random() < 0.6:
                turn = {"role": "assistant", "content": rng.choice([None, "", text(3)]), "tool_calls": calls()}
                if rng.random() < 0.3:
                    del turn["content"]
                if rng.random() < 0.2:
                    turn["reasoning_content"] = text(3)
                turns.append(turn)
                for call in turn["tool_calls"]:
                    turns.append({"role": "tool", "name": call["function"]["name"], "content": rng.choice([text(3), '{"ok": true}'])})
                    if "id" in call:
                        turns[-1]["tool_call_id"] = call["id"]
            turns.append(answer())
        odd = rng.random()
        if odd < 0.3 and len(turns) > 1:
            turns.pop()  # ends with a question
        elif odd < 0.36:
            turns.append(rng.choice(turns))
        elif odd < 0.4:
            rng.choice(turns)["content"] = None
        elif odd < 0.43:
            rng.choice(turns).pop("content", None)
        elif odd < 0.47:
            turn = rng.choice(turns)
            turn["content"] = [{"type": "text", "text": text(4)}, {"type": "image"}, {"type": "text", "text": text(2)}]
        elif odd < 0.49:
            rng.choice(turns)["weight"] = 0
        elif odd < 0.5:
            turns[0]["role"] = "narrator"
        chat = {"messages": turns, "add_generation_prompt": rng.random() < 0.5}
        if with_tools or rng.random() < 0.05:
            chat["tools"] = rng.randrange(len(TOOL_LISTS))
        kwargs = {}
        if rng.random() < 0.15:
            kwargs["documents"] = rng.choice([DOCUMENTS, DOCUMENTS[:1], []])
        if rng.random() < 0.25:
            kwargs["enable_thinking"] = rng.random() < 0.5
        if rng.random() < 0.08:
            kwargs["thinking"] = True
        if rng.random() < 0.05:
            kwargs["tools_in_user_message"] = False
        if rng.random() < 0.05:
            kwargs["date_string"] = "1 Jan 2025"
        if rng.random() < 0.05:
            kwargs["eos_token"] = "<own>"
        if rng.random() < 0.05:
            kwargs["controls"] = {"citations": True, "length": "short"}
        if kwargs:
            chat["kwargs"] = kwargs
        return chat

    return [conversation() for _ in range(400)]


def render(tokenizer, source, chat):
    """The text, or None where the template refuses the conversation."""
    try:
        text = tokenizer.apply_chat_template(
            chat["messages"],
            tools=TOOL_LISTS[chat["tools"]] if "tools" in chat else None,
            chat_template=source,
            add_generation_prompt=chat["add_generation_prompt"],
            tokenize=False,
            **chat.get("kwargs", {}),
        )
    except Exception:
        return None
    return text


def snippet(source):
    try:
        return chat_template_utils._cached_compile_jinja_template(source).render(**template_snippets.VARIABLES)
    except Exception:
        return None


def main():
    VALUES.mkdir(exist_ok=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0}, "<unk>")), **SPECIAL)
    chats = conversations()
    digests = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        source = path.read_text()
        texts = [render(tokenizer, source, chat) for chat in chats]
        marked = ["!" if text is None else "=" + text for text in texts]
        groups = ["\0".join(marked[i : i + GROUP]) for i in range(0, len(marked), GROUP)]
        digests[path.stem] = "".join(hashlib.sha256(group.encode()).hexdigest()[:8] for group in groups)
        if "--texts" in sys.argv:
            (Path(sys.argv[-1]) / f"{path.stem}.json").write_text(json.dumps(texts))
        print(f"{path.stem}: {sum(text is not None for text in texts)} of {len(texts)} are taken")
    snippets = [[source, snippet(source)] for source in template_snippets.sources()]
    snippets = [[source, text] for source, text in snippets if text is None or " at 0x" not in text and "TemplateRef" not in text]
    write = lambda name, lines: (VALUES / name).write_text("[\n" + ",\n".join(lines) + "\n]\n")
    compact = {"separators": (",", ":")}
    write("chats.json", [json.dumps(chat, ensure_ascii=False, **compact) for chat in chats])
    write("snippets.json", [json.dumps(pair, ensure_ascii=True) for pair in snippets])
    (VALUES / "variables.json").write_text(json.dumps({"special_tokens": SPECIAL, "tools": TOOL_LISTS, "snippets": template_snippets.VARIABLES}) + "\n")
    (VALUES / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")


main()
