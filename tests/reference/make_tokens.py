"""Makes the reference values under values/tokens/: a small tokenizer of every style, and what the tokenizers library
and transformers' apply_chat_template make of awkward strings and of conversations.

See README.md. Run from the repository's root: python tests/reference/make_tokens.py
"""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from jinja2.exceptions import TemplateError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

VALUES = Path(__file__).parent / "values" / "tokens"

CORPUS = """
The tide comes in twice a day, and the harbour master writes down every boat that passes the lighthouse.
She's sure they'll say it isn't theirs; we've heard that he'd rather not, and I'm told you're next.
THE ENGINE'S NAME IS WRITTEN ON THE SIDE: DON'T TOUCH IT, IT'LL BURN. In 1987 it cost 1,250 crowns and 75 pence.
def total(rows):\n    return sum(row["price"] * row["count"] for row in rows if row)\n\n\nprint(total([]))
for (let i = 0; i < rows.length; i++) {\n\tif (rows[i] === null) continue;\n\tconsole.log(`row ${i}: ${rows[i]}`);\n}
Der Müller mahlt früh am Morgen, und die Bäckerin wärmt den Ofen. Straße, Größe, Übung, schön.
Le garçon a mangé une crêpe à l'île; où est-il allé l'été dernier ? Ça dépend de l'élève.
El niño soñó con un pingüino y un camión lleno de piñas. ¿Qué pasó después? ¡Nada!
Вечером река темнеет, и рыбаки возвращаются домой. Он сказал, что завтра будет дождь.
今天的天气很好,我们去海边看船。小猫在桌子下面睡觉。你好,世界!
朝の光が窓から入ってきます。ねこはまだ眠っています。カタカナとひらがな。
바다 위로 해가 떠오르고 배들이 돌아옵니다. 고양이는 아직 자고 있어요.
السفينة تعود إلى الميناء في المساء والبحر هادئ.
नदी के किनारे एक पुराना पेड़ है और उसके नीचे बच्चे खेलते हैं।
😀 😃 😄 🎉 🚀 👍 ❤️ 👩‍💻 🇫🇷 🙂🙂🙂
<h1>Boats</h1>\n<p>Seen today: <b>3</b></p>\n<ul>\n\t<li>red</li>\n\t<li>blue</li>\n</ul>
| name | price |\n| ---- | ----: |\n| rope | 12.50 |\n| sail | 310.00 |
You are a helpful assistant. user\nWhat is the capital of the island? assistant\nThe capital is Port Hale. system
""".replace("\\n", "\n").replace("\\t", "\t").strip().split("\n")
CORPUS = [line + "\n" for line in CORPUS for _ in range(3)]

GPT4_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

LLAMA3_TEMPLATE = """\
{%- for message in messages %}
    {%- set header = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' %}
    {%- set turn = header + message['content'] | trim + '<|eot_id|>' %}
    {%- if loop.index0 == 0 %}
        {%- set turn = bos_token + turn %}
    {%- endif %}
    {{- turn }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN2_TEMPLATE = """\
{%- if tools %}
    {{- raise_exception('no tools here') }}
{%- elif messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "assistant" and message.tool_calls %}
        {{- raise_exception('no tools here') }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# Thoughts of earlier turns are left out, those after the last question kept.
QWEN3_TEMPLATE = """\
{%- set ns = namespace(last_question=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == 'user' and message.content is string %}
        {%- set ns.found = true %}
        {%- set ns.last_question = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role != 'assistant' %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- else %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_question and (loop.last or thought) %}
            {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
LLAMA2_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set system = false %}{% endif %}"
    "{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}"
    "{% if loop.index0 == 0 and system != false %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
PHI3_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
GEMMA_TEMPLATE = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}\
{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}\
{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
GPT2_TEMPLATE = (
    "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def byte_level(split: str | None, size: int) -> Tokenizer:
    """Byte-level BPE: GPT-2's own split (None), or a split by a regular expression as Llama 3 and Qwen 2 have it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=split is not None and "{1,3}" in split))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    if split is None:
        tokenizer.pre_tokenizer = plain
    else:
        by = pre_tokenizers.Split(Regex(split), behavior="isolated", invert=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([by, plain])
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece(specials: list[str], size: int, runs: tuple[str, ...] = ()) -> Tokenizer:
    """BPE over characters with bytes for the rest, trained on words; the caller decides how spaces are treated.

    Scripts beyond Latin and Cyrillic stay out of the training and come out as bytes, but for a few Chinese characters.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[*specials, *BYTES], show_progress=False)
    lines = [line.rstrip("\n") for line in CORPUS if max(line) < "\u0500" or "\u4eca" in line]
    tokenizer.train_from_iterator(lines, trainer)
    state = json.loads(tokenizer.to_str())
    # Only the trainer takes bytes for special tokens.
    state["added_tokens"] = []
    model = state["model"]
    for run in runs:
        model["vocab"].setdefault(run, len(model["vocab"]))
        model["merges"] += [[run[:split], run[split:]] for split in range(1, len(run))]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([AddedToken(special, normalized=False, special=True) for special in specials])
    tokenizer.pre_tokenizer = None
    return tokenizer


def starts_with(bos: str, tokenizer: Tokenizer):
    return processors.TemplateProcessing(single=[bos, "$A"], special_tokens=[(bos, tokenizer.token_to_id(bos))])


def special(*texts: str, **options) -> list[AddedToken]:
    return [AddedToken(text, normalized=False, special=True, **options) for text in texts]


def llama3() -> tuple[Tokenizer, dict]:
    tokenizer = byte_level(GPT4_SPLIT.replace("DIGITS", "{1,3}"), 520)
    tokenizer.add_special_tokens(
        special("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    )
    bos = starts_with("<|begin_of_text|>", tokenizer)
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), bos])
    return tokenizer, dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", chat_template=LLAMA3_TEMPLATE)


def qwen2() -> tuple[Tokenizer, dict]:
    tokenizer = byte_level(GPT4_SPLIT.replace("DIGITS", ""), 520)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    return tokenizer, dict(eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=QWEN2_TEMPLATE)


def qwen3() -> tuple[Tokenizer, dict]:
    tokenizer, config = qwen2()
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in ("<think>", "</think>")])
    return tokenizer, {**config, "chat_template": QWEN3_TEMPLATE}


def sentencepiece_decoder(strip: bool):
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(parts + ([decoders.Strip(" ", 1, 0)] if strip else []))


def llama2() -> tuple[Tokenizer, dict]:
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>"], 640)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = starts_with("<s>", tokenizer)
    tokenizer.decoder = sentencepiece_decoder(strip=True)
    config = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True, add_eos_token=False)
    return tokenizer, {**config, "chat_template": LLAMA2_TEMPLATE}


def mistral() -> tuple[Tokenizer, dict]:
    """Later conversions of the same kind: the space goes before the text's first piece alone, special tokens apart."""
    tokenizer, config = llama2()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.add_special_tokens(special("[INST]", "[/INST]"))
    return tokenizer, {**config, "chat_template": MISTRAL_TEMPLATE}


def phi3() -> tuple[Tokenizer, dict]:
    """Llama 2's, with special tokens that swallow the white space after them."""
    tokenizer, config = llama2()
    tokenizer.add_special_tokens(special("<|endoftext|>"))
    tokenizer.add_special_tokens(special("<|assistant|>", "<|system|>", "<|end|>", "<|user|>", rstrip=True))
    config = {**config, "eos_token": "<|endoftext|>", "add_bos_token": False, "chat_template": PHI3_TEMPLATE}
    # As Phi-3's file: nothing is put before a text.
    tokenizer.post_processor = processors.TemplateProcessing(single=["$A"], special_tokens=[])
    return tokenizer, config


def gemma() -> tuple[Tokenizer, dict]:
    runs = (*("\n" * n for n in range(1, 5)), *("\t" * n for n in range(1, 4)), *("▁" * n for n in range(2, 6)))
    tokenizer = sentencepiece(["<pad>", "<eos>", "<bos>", "<unk>"], 640, runs)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False)
    tokenizer.add_special_tokens(special("<start_of_turn>", "<end_of_turn>"))
    plain = [*runs, "<h1>", "</h1>", "<unused0>", "[multimodal]"]
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in plain])
    tokenizer.post_processor = starts_with("<bos>", tokenizer)
    tokenizer.decoder = sentencepiece_decoder(strip=False)
    config = dict(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", add_bos_token=True)
    return tokenizer, {**config, "chat_template": GEMMA_TEMPLATE}


def gpt2() -> tuple[Tokenizer, dict]:
    tokenizer = byte_level(None, 520)
    tokenizer.add_special_tokens(special("<|endoftext|>"))
    end = "<|endoftext|>"
    return tokenizer, dict(
        bos_token=end, eos_token=end, unk_token=end, add_bos_token=False, chat_template=GPT2_TEMPLATE
    )


STYLES = {style.__name__: style for style in (llama3, qwen2, qwen3, llama2, mistral, phi3, gemma, gpt2)}


def write_tokenizer(folder: Path, tokenizer: Tokenizer, config: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
    config = {**config, "clean_up_tokenization_spaces": False, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


# Pieces that strings are put together from. Escapes, because an editor might change what looks the same.
PIECES = {
    "words": ["the", "Harbour", "MASTER", "lighthouse", "boat", "x", "I", "naïve", "Größe", "crêpe", "straße", "ﬁn"],
    "contractions": [
        "she's", "they'LL", "I'm", "don\u2019t", "'s", "'S", "we'VE", "'\u017f", "it'd've", "o'clock", "''re",
    ],
    "spaces": [
        " ", "  ", "   ", "     ", "\t", "\t\t", " \t", "\n", "\n\n", "\n\n\n\n\n", "\r\n", "\r", " \n", "\n ", "\x0b",
        "\x0c",
    ],
    "odd spaces": [
        "\u00a0", "\u00a0\u00a0", "\u1680", "\u2002", "\u2009", "\u200a", "\u202f", "\u205f", "\u3000", "\u2028",
        "\u2029", "\u180e", "\u200b", "\u2060",
    ],
    "joiners": ["\u200d", "\u200c", "\u200e", "\u202e", "\u00ad", "\ufe0f", "\u034f"],
    "emoji": [
        "\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
        "\u2764\ufe0f\u200d\U0001f525", "\U0001f1e9\U0001f1ea", "\U0001f1e9", "\u2640\ufe0f", "3\ufe0f\u20e3", "\u2603",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "\U0001faf1\U0001f3ff",
    ],
    "cjk": [
        "今天", "海边看船。", "朝の光", "カタカナ", "ｶﾀｶﾅ", "바다", "고양이", "\u1112\u1161\u11ab", "\U00020000", "\U0002b740", "々", "〇",
    ],
    "scripts": [
        "السفينة", "بَحْر", "שָׁלוֹם", "река", "नदी के", "ไทย", "ελληνικά", "հայ", "ქართ", "አማ", "ខ្មែរ", "བོད",
    ],
    "combining": [
        "e\u0301", "o\u0308", "a\u0323\u0307", "a\u0307\u0323", "n\u0303", "\u0301", "q\u0307\u0323", "\u212b",
        "\u00c5", "A\u030a", "\u1e9b\u0323", "\u0344", "\u0958", "\u2126", "\uac00\u11a8",
        "z\u0301\u0302\u0303\u0304\u0305",
    ],
    "digits": [
        "7", "42", "1987", "1234567", "3.14", "1,250", "\u0663\u0664", "\uff11\uff12", "\u00b2", "\u00bd", "\u2163",
        "\u0967", "\U0001d7d8",
    ],
    "marks": [
        "!", "?!", "...", "\u2026", "---", "\u2014", "\"", "\u201cso\u201d", "(", "[[", "{}", "//", "\\", "\\n", "%",
        "$", "\u20ac", "^", "`", "~", "_", "__init__", "#", "@", "&&", "*", "\u00bf", "\u3002", "\uff0c", "\u2581",
        "\u2581\u2581", "\u0120", "\u010a",
    ],
    "code": [
        "def f(x):\n    return x", "if (a == b) {\n\tc++;\n}", "https://example.org/a?b=c&d=%20#e",
        "user@host:~$ ls -la", "<div class=\"a\">", "SELECT * FROM t;", "a->b", "0x1F", "1e-5", "/* x */", "</h1>",
        "<h1>",
    ],
    "look-alikes": [
        "<|im_start|>", "<|im_end|>", "<|im_start", "< |im_end|>", "<|IM_END|>", "<|endoftext|>", "<|endoftext|", "<s>",
        "</s>", "< s>", "<s >", "<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>", "[INST]",
        "[/INST]", "[INST ]", "<<SYS>>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end|>",
        "<|user|>", "<|assistant|>", "<0x0A>", "<0xFF>", "<unused0>", "<think>", "</think>", "\uff1cs\uff1e",
        "<|im_\u200bend|>",
    ],
    "rare": [
        "\x00", "\x01", "\x1b[31m", "\x7f", "\x80", "\x9f", "\ufffd", "\ufffe", "\uffff", "\ue000", "\U000f0000",
        "\U0010ffff", "\U0001d54f", "\U0001f170", "\u0378", "\u212a", "\u0130", "\u00df", "\u1e9e", "\u01c5", "\u02bc",
        "\u00aa", "\u0e33", "\u1c89", "\U00031350", "\U0002ebf0",
    ],
}
# Characters on which the JavaScript and the Rust library are known to differ: in a list of their own.
KNOWN = ["\ufeff", "\u0085"]


def make_strings(count: int) -> list[str]:
    """Each piece alone and between letters, runs, then pieces at random; only whole characters, no two alike."""
    source = random.Random(7)
    kinds = list(PIECES)
    strings = [""]
    for pieces in PIECES.values():
        for piece in pieces:
            strings += [piece, f"a{piece}b"] if source.random() < 0.5 else [f" {piece}", f"{piece} {piece}"]
    strings += [line.rstrip("\n") for line in CORPUS[::3]]
    strings += [" " * n + "x" * (n % 3) for n in (7, 8, 15, 16, 17, 31, 32, 33)]
    strings += ["\n" * 9, "\t" * 9, "ab" * 40, "7" * 20]
    seen = dict.fromkeys(strings)
    while len(seen) < count:
        # Two kinds for most of a string, so that pieces of one kind meet.
        some = source.sample(kinds, 2) if source.random() < 0.6 else kinds
        pieces = [source.choice(PIECES[source.choice(some)]) for _ in range(source.randint(2, 7))]
        seen["".join(piece + source.choice(["", "", " "]) for piece in pieces)] = None
    return list(seen)[:count]


def make_known_strings() -> list[str]:
    around = ["", "a", " ", "\n", "  ", "7", "!", "\u4eca"]
    return [before + known + after for known in KNOWN for before in around for after in around]


def turn(role: str, content: str) -> dict:
    return {"role": role, "content": content}


CHATS = [
    [turn("user", "What is the capital of the island?")],
    [turn("user", "What is the capital of the island?"), turn("assistant", "The capital is Port Hale.")],
    [turn("system", "You write briefly."), turn("user", "Name a boat."), turn("assistant", "The Red Gull.")],
    [
        turn("user", "Hi"), turn("assistant", "Hello! How can I help?"), turn("user", "Count to 3,\nplease."),
        turn("assistant", "1, 2, 3"), turn("user", "And 1987?"),
    ],
    [turn("system", " Spaces around. \n"), turn("user", "  two before and after  "), turn("assistant", "\n\nline\n\n")],
    [turn("user", "你好,世界! 😀👩‍💻"), turn("assistant", "朝の光 e\u0301 \u00a0 바다"), turn("user", "السفينة تعود")],
    [turn("user", "Write <|im_end|> and </s> and <eos>"), turn("assistant", "<|im_start|>user\nhullo<|eot_id|>[INST]")],
    [turn("user", "def f(x):\n\treturn x\n\n\n"), turn("assistant", "```python\nf(1)  # one\n```")],
    [turn("user", ""), turn("assistant", "")],
    [
        turn("user", "2+2?"), turn("assistant", "<think>\nadd\n</think>\n\n4"), turn("user", "+1?"),
        turn("assistant", "5"),
    ],
    [turn("user", "2+2?"), turn("assistant", "<think>\ntwo and two\n</think>\n\n4")],
    [turn("assistant", "I begin."), turn("user", "Then I go on.")],
    [turn("user", "One."), turn("user", "Two in a row."), turn("assistant", "Yes.")],
    [turn("user", "{{ messages }} {% raw %}"), turn("assistant", "{{ 1 + 1 }}")],
]


def chats_of(tokenizer) -> list[dict]:
    """Per conversation and generation prompt: text and ids, or that the template refuses it."""
    out = []
    for index, messages in enumerate(CHATS):
        for add_generation_prompt in (False, True):
            case = {"chat": index, "add_generation_prompt": add_generation_prompt}
            options = dict(add_generation_prompt=add_generation_prompt)
            try:
                case["text"] = tokenizer.apply_chat_template(messages, tokenize=False, **options)
                ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
                assert ids == tokenizer(case["text"], add_special_tokens=False)["input_ids"]
                case["ids"] = ids
            except TemplateError:
                case["refused"] = True
            out.append(case)
    return out


def token(content: str, **flags) -> dict:
    return {
        "content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False,
        "special": False, **flags,
    }


# What files beside tokenizer.json say of special and added tokens: entries of tokenizer_config.json, and other files.
FILES = [
    ("qwen2", {"added_tokens_decoder": {"523": token("@@x")}}, {}),
    # A number that leaves a gap is not kept.
    ("qwen2", {"added_tokens_decoder": {"600": token("@@x"), "523": token("@@y", special=True)}}, {}),
    ("qwen2", {"added_tokens_decoder": {"522": token("<|im_end|>", lstrip=True, special=True)}}, {}),
    ("qwen2", {"eos_token": "<|endoftext|>"}, {"special_tokens_map.json": {"eos_token": token("<|im_end|>")}}),
    ("qwen2", {"eos_token": None}, {"special_tokens_map.json": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}}),
    (
        "qwen2", {"eos_token": "<|endoftext|>", "added_tokens_decoder": {}},
        {"special_tokens_map.json": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}},
    ),
    ("qwen2", {}, {"added_tokens.json": {"@@y": 524, "@@x": 523}}),
    ("qwen2", {"eos_token": "@@x"}, {"added_tokens.json": {"@@x": 523}}),
    ("qwen2", {"added_tokens_decoder": {}}, {"added_tokens.json": {"@@x": 523}}),
    # In the vocabulary, but no added token of tokenizer.json.
    ("qwen2", {"eos_token": "the"}, {}),
    ("qwen2", {"eos_token": "@@x", "pad_token": "@@y"}, {}),
    ("qwen2", {"eos_token": {"__type": "AddedToken", **token("@@x", rstrip=True)}}, {}),
    ("qwen2", {"additional_special_tokens": ["@@x", "<|im_end|>"]}, {}),
    ("qwen2", {"extra_special_tokens": [{"__type": "AddedToken", **token("@@x")}, "@@y"]}, {}),
    ("llama2", {"added_tokens_decoder": {"640": token("@@x", normalized=True)}}, {}),
    ("gemma", {}, {"added_tokens.json": {"@@x": 657}}),
]
# Flags of an added token of tokenizer.json itself.
FLAGS = [
    dict(lstrip=True), dict(rstrip=True), dict(lstrip=True, rstrip=True), dict(normalized=True),
    dict(normalized=True, lstrip=True), dict(normalized=True, rstrip=True, special=True),
]
FILE_TEXTS = [
    "a@@xb", "a @@x b", "a  @@x  @@x\tb", "@@x\u00e9@@y", ".@@y.@@x.", "the theme the", "x  <|im_end|>  y", "\n@@x\n",
]


def file_cases() -> list[dict]:
    cases = []

    def case(style: str, config: dict, files: dict, tokens: list[dict]) -> None:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            shutil.copytree(VALUES / style, folder, dirs_exist_ok=True)
            for name, changes in (("tokenizer_config.json", config), *files.items()):
                path = folder / name
                known = json.loads(path.read_text()) if path.exists() else {}
                path.write_text(json.dumps({**known, **changes}))
            state = json.loads((folder / "tokenizer.json").read_text())
            state["added_tokens"] += tokens
            (folder / "tokenizer.json").write_text(json.dumps(state))
            loaded = AutoTokenizer.from_pretrained(folder)
        ids = [loaded(text, add_special_tokens=False)["input_ids"] for text in FILE_TEXTS]
        cases.append({
            "style": style, "config": config, "files": files, "added_tokens": tokens,
            "bos": loaded.bos_token_id, "eos": loaded.eos_token_id, "ids": ids,
        })

    for style, config, files in FILES:
        case(style, config, files, [])
    for style in ("qwen2", "llama2", "mistral", "gemma"):
        size = Tokenizer.from_file(str(VALUES / style / "tokenizer.json")).get_vocab_size()
        for flags in FLAGS:
            case(style, {}, {}, [{"id": size, **token("@@x", **flags)}])
    return cases


def dump_lines(path: Path, values: list) -> None:
    """One value a line, in ASCII: no editor and no git setting changes it."""
    lines = ",\n".join(json.dumps(value, separators=(",", ":")) for value in values)
    path.write_text(f"[\n{lines}\n]\n")


def main() -> None:
    shutil.rmtree(VALUES, ignore_errors=True)
    VALUES.mkdir(parents=True)
    strings, known = make_strings(1000), make_known_strings()
    dump_lines(VALUES / "strings.json", strings)
    dump_lines(VALUES / "known_strings.json", known)
    dump_lines(VALUES / "chats.json", CHATS)
    for name, style in STYLES.items():
        tokenizer, config = style()
        write_tokenizer(VALUES / name, tokenizer, config)
        encode = lambda texts: [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        # Qwen 3's differs from Qwen 2's in its template alone.
        if name != "qwen3":
            dump_lines(VALUES / name / "ids.json", encode(strings))
            dump_lines(VALUES / name / "known_ids.json", encode(known))
        # What the library says is what transformers says, which reads the same files.
        loaded = AutoTokenizer.from_pretrained(VALUES / name)
        texts = strings + known
        assert [loaded(text, add_special_tokens=False)["input_ids"] for text in texts] == encode(texts)
        dump_lines(VALUES / name / "chats.json", chats_of(loaded))
        tokens = sum(map(len, encode(strings)))
        print(f"{name}: vocabulary {tokenizer.get_vocab_size()}, {tokens} tokens for {len(strings)} strings")
    dump_lines(VALUES / "file_texts.json", FILE_TEXTS)
    dump_lines(VALUES / "files.json", file_cases())


if __name__ == "__main__":
    main()
