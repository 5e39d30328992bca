"""Makes values/tokens/split.json: what transformers makes of special tokens in a text with split_special_tokens=True.

See README.md. Run from the repository's root: python tests/reference/make_split_tokens.py
"""

import json
import random
from pathlib import Path

from transformers import AutoTokenizer

VALUES = Path(__file__).parent / "values" / "tokens"
STYLES = ["llama3", "qwen2", "qwen3", "llama2", "mistral", "phi3", "gemma", "gpt2"]
STRINGS = 60
BETWEEN = ["", " ", "\n", "a", "the boat ", " é", "  ", "7", ".", "<", "▁", "x\n\n"]

values = {}
for style in STYLES:
    tokenizer = AutoTokenizer.from_pretrained(VALUES / style)
    specials = sorted(token.content for token in tokenizer.added_tokens_decoder.values())
    draw = random.Random(style)
    rows = []
    for _ in range(STRINGS):
        parts = [draw.choice(BETWEEN)]
        for _ in range(draw.randint(1, 3)):
            token = draw.choice(specials)
            parts += [token[: draw.randint(1, len(token))] if draw.random() < 0.2 else token, draw.choice(BETWEEN)]
        text = "".join(parts)
        rows.append([text, tokenizer(text, split_special_tokens=True, add_special_tokens=False)["input_ids"]])
    values[style] = rows

(VALUES / "split.json").write_text(json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("]],", "]],\n") + "\n")
