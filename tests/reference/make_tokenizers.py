"""Makes the reference values under values/tokenizers/: a small tokenizer in the style of each kind of model, and digests
of what the tokenizers library makes of every code point below 0x20000 and of random strings.

See README.md. Run from the repository's root: python tests/reference/make_tokenizers.py [NAME ...]
"""

import functools
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import sentencepiece
from make_tokens import CORPUS, PIECES, sentencepiece as sentencepiece_bpe, sentencepiece_decoder, special, starts_with
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VALUES = Path(__file__).parent / "values" / "tokenizers"
SIZE = 330  # entries of most vocabularies
STRINGS = 2000
STRINGS_A_DIGEST = 20

GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
O200K = "|".join([
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
])
TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def bpe(model: models.BPE, pre, size: int = SIZE, **options) -> Tokenizer:
    """Trained on the corpus as the pre-tokenizer splits it."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, show_progress=False, **options))
    return tokenizer


ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@functools.cache
def byte_model() -> dict:
    """Bytes, then what shows where a text is split: "a", " " or a line feed with every byte behind it, every byte with
    "b" or "1" behind it, white space in twos. Then what training gives."""
    trained = bpe(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), SIZE, initial_alphabet=ALPHABET)
    state = json.loads(trained.to_str())["model"]
    shown = [(left, right) for left in "aĠĊ" for right in ALPHABET] + [(left, right) for right in "b1" for left in ALPHABET]
    shown = list(dict.fromkeys(shown))
    merges = shown + [pair for pair in map(tuple, state["merges"]) if pair not in set(shown)]
    tokens = dict.fromkeys([*ALPHABET, *(left + right for left, right in merges)])
    return {**state, "vocab": {token: id for id, token in enumerate(tokens)}, "merges": merges}


def byte_level(*splits, add_prefix_space: bool = False, use_regex: bool = False, **options) -> Tokenizer:
    """Splits, then bytes."""
    last = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)
    model = byte_model()
    tokenizer = Tokenizer(models.BPE(model["vocab"], model["merges"], **options))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, last]) if splits else last
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split(pattern: str, behavior: str = "isolated", invert: bool = False):
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=invert)


def gpt2() -> Tokenizer:
    tokenizer = byte_level(use_regex=True)
    tokenizer.add_special_tokens(special("<|endoftext|>"))
    return tokenizer


def roberta() -> Tokenizer:
    tokenizer = byte_level(use_regex=True, add_prefix_space=True)
    tokenizer.add_special_tokens(special("<s>", "<pad>", "</s>"))
    tokenizer.add_special_tokens(special("<mask>", lstrip=True))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")))
    return tokenizer


def llama3() -> Tokenizer:
    tokenizer = byte_level(split(GPT4.replace("DIGITS", "{1,3}")), ignore_merges=True)
    tokenizer.add_special_tokens(special("<|begin_of_text|>", "<|eot_id|>"))
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), starts_with("<|begin_of_text|>", tokenizer)])
    return tokenizer


def qwen2() -> Tokenizer:
    tokenizer = byte_level(split(GPT4.replace("DIGITS", "")))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in ("<think>", "</think>")])
    return tokenizer


def cl100k() -> Tokenizer:
    return byte_level(split(CL100K))


def o200k() -> Tokenizer:
    tokenizer = byte_level(split(O200K))
    tokenizer.add_special_tokens(special("<|start|>", "<|end|>", "<|message|>"))
    return tokenizer


def tekken() -> Tokenizer:
    tokenizer = byte_level(split(TEKKEN), ignore_merges=True)
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>", "[INST]", "[/INST]"))
    tokenizer.post_processor = starts_with("<s>", tokenizer)
    return tokenizer


def deepseek3() -> Tokenizer:
    tokenizer = byte_level(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK3))
    tokenizer.add_special_tokens(special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"))
    tokenizer.add_tokens([AddedToken(text, normalized=True, special=False) for text in ("<｜User｜>", "<｜Assistant｜>", "<｜EOT｜>")])
    return tokenizer


def deepseek_coder() -> Tokenizer:
    splits = [split(pattern) for pattern in (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")]
    return byte_level(*splits, pre_tokenizers.Digits(individual_digits=True))


def smollm2() -> Tokenizer:
    tokenizer = byte_level(pre_tokenizers.Digits(individual_digits=True), use_regex=True)
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    return tokenizer


def digit_runs() -> Tokenizer:
    """StarCoder's, with numbers whole, and the normalizer that spells bytes before added tokens are searched for."""
    tokenizer = byte_level(pre_tokenizers.Digits(individual_digits=False), use_regex=True)
    tokenizer.add_tokens([AddedToken(text, single_word=True) for text in ("boat", "é", "_x")])
    tokenizer.add_tokens([AddedToken("ship", single_word=True, lstrip=True, rstrip=True)])
    return tokenizer


def falcon() -> Tokenizer:
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]"),
    ])
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre
    tokenizer.add_special_tokens(special(">>TITLE<<", "<|endoftext|>"))
    return tokenizer


def bloom() -> Tokenizer:
    return byte_level(split(" ?[^(\\s|[.,!?…。，、।۔،])]+"))


def llama2() -> Tokenizer:
    tokenizer = sentencepiece_bpe(["<unk>", "<s>", "</s>"], 420)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = starts_with("<s>", tokenizer)
    tokenizer.decoder = sentencepiece_decoder(strip=True)
    return tokenizer


def mistral() -> Tokenizer:
    tokenizer = llama2()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.add_special_tokens(special("[INST]", "[/INST]"))
    return tokenizer


def phi3() -> Tokenizer:
    tokenizer = llama2()
    tokenizer.add_special_tokens(special("<|assistant|>", "<|end|>", "<|user|>", rstrip=True))
    tokenizer.add_tokens([AddedToken("\n", normalized=False), AddedToken("</s>x", normalized=False), AddedToken("s>x y", normalized=False)])
    return tokenizer


def gemma() -> Tokenizer:
    runs = (*("\n" * n for n in range(1, 4)), "\t", *("▁" * n for n in range(2, 5)))
    tokenizer = sentencepiece_bpe(["<pad>", "<eos>", "<bos>", "<unk>"], 420, runs)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False)
    tokenizer.add_special_tokens(special("<start_of_turn>", "<end_of_turn>"))
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in (*runs, "<h1>", "<unused0>")])
    tokenizer.decoder = sentencepiece_decoder(strip=False)
    return tokenizer


# What a map of sentencepiece's does: wide letters, ligatures, spaces, characters that go away, compositions.
RULES = {
    "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u2028": " ", "\u200b": " ", "\ufeff": " ", "\u0085": " ",
    "\x01": "", "\x1b": "", "\x7f": "", "\u00ad": "", "ﬁ": "fi", "ﬂ": "fl", "½": "1⁄2", "²": "2", "Ⅻ": "XII", "№": "No",
    "ﷺ": "صلى الله عليه وسلم", "\u212b": "\u00c5", "e\u0301": "é", "o\u0308": "ö", "n\u0303": "ñ", "a\u0323": "ạ", "か\u3099": "が",
    "ｶ": "カ", "ｶﾞ": "ガ", "\uac00\u11a8": "각", "…": "...", "ﾞ": "\u3099", "ſ": "s", "℡": "TEL",
    **{chr(0xFF01 + n): chr(0x21 + n) for n in range(94)},
}


def unigram(normalizer, size: int, lowercase: bool = False, **options) -> tuple[list, bytes]:
    """Pieces with scores, and a compiled map of RULES."""
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        code = lambda text: " ".join(f"{ord(c):X}" for c in text)
        rules.write_text("".join(f"{code(old)}\t{code(new)}\n" for old, new in RULES.items()))
        lines = Path(folder) / "lines.txt"
        lines.write_text("".join(line.lower() if lowercase else line for line in CORPUS))
        sentencepiece.SentencePieceTrainer.train(
            input=str(lines), model_prefix=f"{folder}/m", vocab_size=size, normalization_rule_tsv=str(rules), minloglevel=2,
            character_coverage=0.98, num_threads=1, **options,
        )
        processor = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")
        from sentencepiece import sentencepiece_model_pb2 as pb2
        proto = pb2.ModelProto.FromString(Path(f"{folder}/m.model").read_bytes())
        return [(piece.piece, round(piece.score, 4)) for piece in proto.pieces], proto.normalizer_spec.precompiled_charsmap


def unigram_tokenizer(size: int = 300, lowercase: bool = False, byte_fallback: bool = False, **options):
    pieces, charsmap = unigram(None, size, lowercase, byte_fallback=byte_fallback, **options)
    unknown = [piece for piece, _ in pieces].index("<unk>")
    return Tokenizer(models.Unigram(pieces, unknown, byte_fallback)), normalizers.Precompiled(charsmap)


def xlm_roberta() -> Tokenizer:
    tokenizer, precompiled = unigram_tokenizer()
    tokenizer.normalizer = precompiled
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special("<s>", "</s>", "<unk>"))
    tokenizer.add_special_tokens(special("<mask>", lstrip=True))
    return tokenizer


def t5() -> Tokenizer:
    tokenizer, precompiled = unigram_tokenizer()
    tokenizer.normalizer = normalizers.Sequence([
        precompiled, normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁"),
    ])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens(special("</s>", "<extra_id_0>", "<extra_id_1>"))
    return tokenizer


def albert() -> Tokenizer:
    tokenizer, precompiled = unigram_tokenizer(lowercase=True)
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(), normalizers.StripAccents(),
        normalizers.Lowercase(), precompiled, normalizers.Replace(Regex(" {2,}"), " "),
    ])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special("[CLS]", "[SEP]"))
    tokenizer.add_special_tokens(special("[MASK]", lstrip=True))
    return tokenizer


def unigram_bytes() -> Tokenizer:
    tokenizer, _ = unigram_tokenizer(500, byte_fallback=True)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(special("<s>", "</s>"))
    return tokenizer


def bert(lowercase: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=None if lowercase else False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_tokens([AddedToken("Ａb", normalized=True), AddedToken("ÉTÉ", normalized=True)])
    return tokenizer


def bert_cased() -> Tokenizer:
    return bert(lowercase=False)


def words(pre, normalizer=None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(vocab_size=200, special_tokens=["[UNK]", "a", "b"], show_progress=False))
    return tokenizer


def word_level() -> Tokenizer:
    return words(pre_tokenizers.Whitespace())


def whitespace_split() -> Tokenizer:
    return words(pre_tokenizers.WhitespaceSplit(), normalizers.Sequence([normalizers.Nmt(), normalizers.Strip()]))


def delimiters() -> Tokenizer:
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.CharDelimiterSplit(" "), pre_tokenizers.Punctuation("merged_with_next"),
        pre_tokenizers.Split("e", "merged_with_previous"), split(r"\d|(?=x)", "merged_with_next"),
    ])
    return words(pre, normalizers.NFKC())


def punctuation() -> Tokenizer:
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")])
    return words(pre, normalizers.NFD())


def clip() -> Tokenizer:
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    pre = pre_tokenizers.Sequence([split(pattern, "removed", True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    model = models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    tokenizer = bpe(model, pre, 640, initial_alphabet=ALPHABET, end_of_word_suffix="</w>")
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for character in ALPHABET:
        vocabulary.setdefault(f"{character}</w>", len(vocabulary))
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special("<|startoftext|>", "<|endoftext|>"))
    return tokenizer


def fixed_length() -> Tokenizer:
    tokenizer = words(pre_tokenizers.FixedLength(length=3))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def subword_prefix() -> Tokenizer:
    tokenizer = bpe(
        models.BPE(continuing_subword_prefix="##", unk_token="[UNK]", fuse_unk=True), pre_tokenizers.BertPreTokenizer(), 500,
        special_tokens=["[UNK]"], continuing_subword_prefix="##",
    )
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def byte_normalizer() -> Tokenizer:
    """No pre-tokenizer: the normalizer spells bytes, and added tokens are searched for in what it makes."""
    tokenizer = byte_level(use_regex=True)
    tokenizer.pre_tokenizer = split(r"Ġ?[^Ġ]+")
    tokenizer.normalizer = normalizers.ByteLevel()
    tokenizer.add_tokens([AddedToken("你好", normalized=True), AddedToken(" boat", normalized=True)])
    return tokenizer


def ctc() -> Tokenizer:
    tokenizer = words(pre_tokenizers.Split("", "isolated"), normalizers.Replace(" ", "|"))
    tokenizer.decoder = decoders.CTC(pad_token="a")
    return tokenizer


def suffix() -> Tokenizer:
    """The first BPE models': words with an end, and a decoder that makes spaces of it."""
    tokenizer = bpe(
        models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"), pre_tokenizers.Whitespace(), 420,
        special_tokens=["<unk>"], end_of_word_suffix="</w>",
    )
    tokenizer.decoder = decoders.BPEDecoder()
    return tokenizer


STYLES = {style.__name__: style for style in (
    gpt2, roberta, llama3, qwen2, cl100k, o200k, tekken, deepseek3, deepseek_coder, smollm2, digit_runs, falcon, bloom, llama2,
    mistral, phi3, gemma, xlm_roberta, t5, albert, unigram_bytes, bert, bert_cased, word_level, whitespace_split, delimiters,
    punctuation, clip, fixed_length, subword_prefix, byte_normalizer, ctc, suffix,
)}

MORE_PIECES = [
    "\ufeff", "\u0085", " \ufeff", "\u0085\u0085", "\u180e", "\u061c", "½", "²", "Ⅻ", "٣", "x\u0663y", "۴", "⑳", "\U0001d7d8",
    "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜User|>", "<|User|>", " <mask>", "<mask>  ", "[MASK]", "[CLS]", "[UNK]", "<extra_id_0>",
    "<|startoftext|>", ">>TITLE<<", "boat", "boats", "_boat", "ship", "  ship  ", "é", "été", "ÉTÉ", "ＡB", "你好", "##ing", "</w>", "|",
    "s>x y", "</s>x", "</s>x y", "''", "``x", "Σ", "ΑΣ", "ὈΔΥΣΣΕΎΣ", "İ", "ﷺ", "e\u0301\u0302", "か\u3099", "ｶﾞ", "각", "\r\n\u0301",
    "12345678", "a1b22c333d4444", "x!?y", "...!!!", "e.e,e", "\u0600a", "\u200d1", "\u0f3a\u0f3b", "\u2e43", "\u16fe4", "\U0001e94b",
]
ALL_PIECES = [piece for pieces in PIECES.values() for piece in pieces] + MORE_PIECES


def random_strings() -> list[str]:
    """Strings of pieces, by a generator that tests/preference/tokenizers_test.ts has too."""
    state = 1

    def below(limit: int) -> int:
        nonlocal state
        state = (state * 1664525 + 1013904223) % 2**32
        return (state >> 8) % limit

    strings = []
    for _ in range(STRINGS):
        text = ""
        for _ in range(1 + below(8)):
            text += ALL_PIECES[below(len(ALL_PIECES))] + ("", "", " ", "a")[below(4)]
        strings.append(text)
    return strings


def results(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """Of each text its ids, and the text that they stand for."""
    encodings = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    decoded = tokenizer.decode_batch(encodings, skip_special_tokens=False)
    return [f"{','.join(map(str, ids))}|{text}" for ids, text in zip(encodings, decoded)]


def digest(results: list[str]) -> str:
    return hashlib.sha256("\n".join(results).encode()).hexdigest()[:6]


def block_texts(block: int, left_out: set[int]) -> list[str]:
    codes = [code for code in range(256 * block, 256 * block + 256) if not 0xD800 <= code < 0xE000 and code not in left_out]
    return [text for code in codes for text in (chr(code), f"a{chr(code)}b", f"\n {chr(code)}1")]


def left_out(style: str) -> set[int]:
    """Code points that the libraries' Unicode versions differ in, as unicode.json lists them: ranges by style."""
    ranges = json.loads((VALUES / "unicode.json").read_text()).get(style, [])
    return {code for first, last in ranges for code in range(int(first, 16), int(last, 16) + 1)}


def write(path: Path, value) -> None:
    path.write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")


def part_model(name: str, state: dict, shared: dict) -> dict:
    """The file with what its model has of its own, and a name for what others of its kind have too."""
    model = state["model"]
    fields = {field: model.pop(field) for field in ("vocab", "merges") if field in model}
    key = next((key for key, other in shared.items() if other == fields), name)
    shared[key] = fields
    return {**state, "model": {"shared": key, **model}}


if __name__ == "__main__":
    VALUES.mkdir(parents=True, exist_ok=True)
    write(VALUES / "pieces.json", ALL_PIECES)
    shared: dict = {}
    digests = {}
    for name, make in STYLES.items():
        tokenizer = make()
        write(VALUES / f"{name}.json", part_model(name, json.loads(tokenizer.to_str()), shared))
        if "--files" in sys.argv:
            continue
        out = left_out(name)
        strings = [text for text in random_strings() if not out & set(map(ord, text))]
        digests[name] = {
            "code_points": "".join(digest(results(tokenizer, block_texts(block, out))) for block in range(512)),
            "strings": "".join(
                digest(results(tokenizer, strings[start : start + STRINGS_A_DIGEST]))
                for start in range(0, len(strings), STRINGS_A_DIGEST)
            ),
        }
        print(name, flush=True)
    write(VALUES / "models.json", shared)
    if digests:
        (VALUES / "digests.json").write_text(json.dumps(digests, indent=0) + "\n")
