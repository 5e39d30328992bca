"""Makes the reference values under values/authors/: what the SimPO authors' own code makes of awkward rows.

See README.md. Run from the repository's root, with a checkout of princeton-nlp/SimPO:
python tests/reference/make_authors.py PATH_OF_THE_CHECKOUT
"""

import copy
import importlib.util
import json
import shutil
import sys
import types
from pathlib import Path
from unittest import mock

import yaml
from transformers import AutoTokenizer

from make_tokens import GPT2_TEMPLATE, LLAMA3_TEMPLATE, PHI3_TEMPLATE, QWEN2_TEMPLATE, dump_lines, turn

HERE = Path(__file__).parent
TOKENIZERS, VALUES = HERE / "values" / "tokens", HERE / "values" / "authors"

# Templates of the authors' recipes in our own spelling; main() checks that they give the text that theirs give.
MISTRAL_TEMPLATE = """\
{%- set ns = namespace(before='') %}
{%- for message in messages %}
    {%- if loop.first and message.role == 'system' %}
        {%- set ns.before = message.content.strip() + '\\n\\n' %}
    {%- elif message.role == 'user' %}
        {{- '[INST] ' + (ns.before + message.content).strip() + ' [/INST]' }}
        {%- set ns.before = '' %}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + (ns.before + message.content).strip() + ' ' + eos_token }}
        {%- set ns.before = '' %}
    {%- endif %}
{%- endfor %}
"""
ZEPHYR_TEMPLATE = """\
{% for message in messages %}
{% if message.role in ['user', 'system', 'assistant'] %}
{{ '<|' + message.role + '|>\\n' + message.content + eos_token }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
"""
GEMMA_TEMPLATE = """\
{{- bos_token }}
{%- set ns = namespace(before='') %}
{%- for message in messages %}
    {%- if loop.first and message.role == 'system' %}
        {%- set ns.before = message.content | trim + '\\n\\n' %}
    {%- else %}
        {%- set role = 'model' if message.role == 'assistant' else message.role %}
        {{- '<start_of_turn>' + role + '\\n' + (ns.before + message.content) | trim + '<end_of_turn>\\n' }}
        {%- set ns.before = '' %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\\n' }}
{%- endif %}
"""
CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# Name: the tokenizer's folder, and what its tokenizer_config.json says otherwise.
RECIPES = {
    "llama3": ("llama3", {"chat_template": LLAMA3_TEMPLATE}),
    "mistral": ("mistral", {"chat_template": MISTRAL_TEMPLATE}),
    "zephyr": ("llama2", {"chat_template": ZEPHYR_TEMPLATE}),
    "gemma": ("gemma", {"chat_template": GEMMA_TEMPLATE}),
}
# The authors' code refuses a tokenizer without bos_token.
WITH_BOS = {"bos_token": "<|endoftext|>", "add_bos_token": True}
OTHERS = {
    "chatml": ("qwen2", {"chat_template": CHATML_TEMPLATE, **WITH_BOS}),
    "qwen2": ("qwen2", {"chat_template": QWEN2_TEMPLATE, **WITH_BOS}),
    "smollm": ("qwen2", {"chat_template": CHATML_TEMPLATE, "bos_token": "<|im_start|>"}),
    "phi3": ("phi3", {"chat_template": PHI3_TEMPLATE}),
    "gpt2": ("gpt2", {"chat_template": GPT2_TEMPLATE, "add_bos_token": True}),
}
# Of rows of strings, which have no template.
STRINGS = {name: {} for name in ("llama3", "llama2", "mistral", "gemma")} | {"gpt2": {"add_bos_token": True}}

LONG = "The tide comes in twice a day, and the harbour master writes down every boat. "


def row(prompt, chosen, rejected) -> dict:
    """The prompt's turns and the responses' texts, as the authors' data sets have them: whole conversations."""
    prompt = [turn("user", prompt)] if isinstance(prompt, str) else prompt
    return {side: [*prompt, turn("assistant", text)] for side, text in (("chosen", chosen), ("rejected", rejected))}


CONVERSATIONS = {
    "plain": row("What is the capital of the island?", "Port Hale.", "I do not know."),
    "system": row([turn("system", "You write briefly."), turn("user", "Name a boat.")], "The Red Gull.", "Boat"),
    "turns": row(
        [
            turn("user", "Hi"), turn("assistant", "Hello! How can I help?"), turn("user", "Count to 3,\nplease."),
            turn("assistant", "1, 2, 3"), turn("user", "And 1987?"),
        ],
        "1988", "1987, 1988, 1989.",
    ),
    "system and turns": row(
        [turn("system", " Spaces. \n"), turn("user", "  a  "), turn("assistant", "\n\nb\n\n"), turn("user", "\tc ")],
        "  two spaces before", "two behind  ",
    ),
    "line feeds": row("Write a poem.\n", "\nThe tide\n\ncomes in.\n", "\n\n\nNo.\n\n"),
    "same": row("Which?", "This one.", "This one."),
    "short": row("?", ".", "x"),
    "spaces alone": row("Say nothing.", " ", "\n\n"),
    "empty": row("Say nothing.", "", "Nothing."),
    "emoji": row("今天的天气? 👩‍💻", "很好! 😀👍🏽", "你好,世界! e\u0301 ｶﾀｶﾅ"),
    "scripts": row("السفينة تعود إلى", "الميناء في المساء", "नदी के किनारे बच्चे"),
    "look-alikes": row("Write <|im_end|> and </s>", "<|eot_id|>[INST] <s>", "<eos> <|im_start|>user\nhullo"),
    "ends itself": row("Bye", "Good bye.</s>", "Bye<|im_end|>"),
    "code": row("def f(x):\n\treturn x\n\n\n", "```python\nf(1)  # one\n```", "f(1)"),
    "assistant first": row([turn("assistant", "I begin."), turn("user", "Go on.")], "Then I do.", "No."),
    "prompt apart": {
        "prompt": [turn("user", "Name a boat.")],
        "chosen": [turn("assistant", "The Red Gull.")], "rejected": [turn("assistant", "Boat")],
    },
    "long": row([turn("user", LONG * 2), turn("assistant", "Yes."), turn("user", "More?")], "More." * 5, LONG),
}
APART = {
    "turns apart": {
        "chosen": [turn("user", "Hi"), turn("assistant", "Hello!"), turn("user", "And?"), turn("assistant", "So.")],
        "rejected": [turn("user", "Hi"), turn("assistant", "Hm."), turn("user", "What?"), turn("assistant", "No.")],
    },
}
TEXTS = {
    f"text: {name}": dict(zip(("prompt", "chosen", "rejected"), texts)) for name, texts in {
        "plain": ("What is the capital?", " Port Hale.", " I do not know."),
        "space at the boundary": ("What is it? ", "Port Hale.", "no"),
        "within a word": ("The harb", "our master", "inger"),
        "one merges": ("The harbou", "r master", "!"),
        "line feeds": ("Line one.\n", "\nLine two.", "\n\n\nLine four."),
        "spaces": ("Two  ", "  four", " \tthree"),
        "digits": ("In 19", "87 it cost", " 1987"),
        "contraction": ("I don", "'t know", "\u2019t"),
        "emoji": ("👩", "\u200d💻 writes", "👍🏽"),
        "cjk": ("今天的天气", "很好。", "e\u0301"),
        "combining": ("e", "\u0301t\u00e9", "\u0308"),
        "special tokens": ("</s>", "<s>x", "<|eot_id|><|endoftext|>"),
        "ends itself": ("Bye.", " Bye.</s>", " Bye.<|endoftext|>"),
        "no prompt": ("", "Something.", "Nothing"),
        "no response": ("Something.", "", "Nothing"),
        "long": ((LONG * 2).strip(), " " + LONG, " Short."),
    }.items()
}
WHOLE = {"max_length": 4096, "max_prompt_length": 2048, "truncation_mode": "keep_end"}


def limits(max_length: int, max_prompt_length: int, truncation_mode: str = "keep_end") -> dict:
    return dict(max_length=max_length, max_prompt_length=max_prompt_length, truncation_mode=truncation_mode)


def cuts(whole: dict) -> list[dict]:
    """Limits that cut nothing, the prompt, the prompt and the responses, the responses alone."""
    prompt = max(side["scored_from"] for side in whole.values())
    longest = max(len(side["ids"]) for side in whole.values())
    kept, response = prompt // 3, longest - prompt
    return [
        limits(longest, kept),
        limits(longest - 1, kept, "keep_start"),
        limits(longest - 1, kept),
        limits(kept + response - 3, kept, "keep_start"),
        limits(kept + response - 3, kept),
        limits(longest - 2, prompt),
        limits(longest - 2, prompt + 3),
    ]


class Anything(type):
    """Classes that have every attribute."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_: None


def stub(name: str) -> types.ModuleType:
    """A module for those of their imports that tokenising does not need: whatever is asked of it is a class."""
    module = types.ModuleType(name)
    module.__getattr__ = lambda attribute: Anything(attribute, (), {})
    return module


def load(path: Path, name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def authors(checkout: Path) -> tuple[types.ModuleType, type, types.ModuleType]:
    """Their run_simpo, SimPOTrainer and alignment.data."""
    replaced = ["accelerate", "alignment", "alignment.configs", "datasets", "datasets.builder", "peft", "trl"]
    replaced += ["transformers", "transformers.trainer_callback", "transformers.trainer_utils", "transformers.utils"]
    replaced += ["trl.trainer", "trl.trainer.utils"]
    flags = types.ModuleType("trl.import_utils")
    flags.is_peft_available = flags.is_wandb_available = lambda: False
    with mock.patch.dict(sys.modules, {**{name: stub(name) for name in replaced}, "trl.import_utils": flags}):
        data = load(checkout / "alignment" / "data.py", "alignment.data")
        load(checkout / "scripts" / "simpo_config.py", "simpo_config")
        trainer = load(checkout / "scripts" / "simpo_trainer.py", "simpo_trainer")
        return load(checkout / "scripts" / "run_simpo.py", "run_simpo"), trainer.SimPOTrainer, data


def tokenizer_of(folder: str, changes: dict):
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZERS / folder)
    for name, value in changes.items():
        if name != "add_bos_token":
            setattr(tokenizer, name, value)
    return tokenizer


def check_templates(run, data, checkout: Path) -> None:
    """Ours give the authors' text, for whole prompts and for responses alone."""
    gemma = yaml.safe_load((checkout / "training_configs" / "gemma-2-9b-it-simpo.yaml").read_text())["chat_template"]
    theirs = {"mistral": run.MISTRAL_CHAT_TEMPLATE, "zephyr": data.DEFAULT_CHAT_TEMPLATE, "gemma": gemma}
    for name, template in theirs.items():
        tokenizer = tokenizer_of(*RECIPES[name])
        for conversation in CONVERSATIONS.values():
            for side in ("chosen", "rejected"):
                for system in ([], [turn("system", "")]):
                    for turns in (conversation[side][:-1], conversation[side][-1:]):
                        turns = turns if turns and turns[0]["role"] == "system" else system + turns
                        if not turns:
                            continue
                        texts = [
                            tokenizer.apply_chat_template(turns, tokenize=False, chat_template=spelling)
                            for spelling in (template, RECIPES[name][1]["chat_template"])
                        ]
                        assert texts[0] == texts[1], (name, texts)


class Authors:
    """Their functions behind one tokenizer."""

    def __init__(self, run, trainer: type, tokenizer) -> None:
        self.run, self.tokenizer = run, tokenizer
        self.trainer = trainer.__new__(trainer)
        self.trainer.tokenizer = tokenizer
        self.trainer.is_encoder_decoder = False
        self.trainer.label_pad_token_id = -100

    def template(self, conversation: dict) -> dict:
        # Their function inserts turns into the row's own lists.
        texts = self.run.apply_chat_template(copy.deepcopy(conversation), self.tokenizer, "simpo")
        return {name: texts[f"text_{name}"] for name in ("prompt", "chosen", "rejected")}

    def tokenise(self, texts: dict, settings: dict) -> dict:
        for name, value in settings.items():
            setattr(self.trainer, name, value)
        made = self.trainer.tokenize_row(texts)
        sides = {}
        for side in ("chosen", "rejected"):
            ids, labels = made[f"{side}_input_ids"], made[f"{side}_labels"]
            assert len(ids) == len(labels) == len(made[f"{side}_attention_mask"])
            scored = [label != -100 for label in labels]
            scored_from = scored.index(True) if True in scored else len(scored)
            assert all(scored[scored_from:]) and labels[scored_from:] == ids[scored_from:]
            sides[side] = {"ids": [int(id) for id in ids], "scored_from": scored_from}
        return sides

def check_bos_is_needed(run, trainer: type) -> None:
    theirs = Authors(run, trainer, tokenizer_of("qwen2", {}))
    try:
        theirs.template(CONVERSATIONS["plain"])
    except TypeError:
        return
    raise AssertionError("The authors' code takes a tokenizer without BOS.")


def main() -> None:
    checkout = Path(sys.argv[1])
    run, trainer, data = authors(checkout)
    check_templates(run, data, checkout)
    check_bos_is_needed(run, trainer)
    shutil.rmtree(VALUES, ignore_errors=True)
    VALUES.mkdir(parents=True)
    styles = []

    def dump(name: str, folder: str, changes: dict, rows: dict, template, with_cuts: bool) -> None:
        theirs = Authors(run, trainer, tokenizer_of(folder, changes))
        styles.append({"name": name, "tokenizer": folder, "config": changes})
        cases = []
        for row_name, given in rows.items():
            texts = template(theirs, given)
            whole = theirs.tokenise(texts, WHOLE)
            cases.append({"row": row_name, "settings": WHOLE, **whole})
            if with_cuts and row_name.endswith("long"):
                for settings in cuts(whole):
                    cases.append({"row": row_name, "settings": settings, **theirs.tokenise(texts, settings)})
        dump_lines(VALUES / f"{name}.json", cases)

    for name, (folder, changes) in RECIPES.items():
        dump(name, folder, changes, CONVERSATIONS | APART, Authors.template, True)
    for name, (folder, changes) in OTHERS.items():
        dump(name, folder, changes, CONVERSATIONS, Authors.template, False)
    for folder, changes in STRINGS.items():
        dump(f"{folder}_strings", folder, changes, TEXTS, lambda _, texts: texts, True)
    dump_lines(VALUES / "styles.json", styles)
    rows = CONVERSATIONS | APART | TEXTS
    dump_lines(VALUES / "rows.json", [{"name": name, **given} for name, given in rows.items()])


if __name__ == "__main__":
    main()
