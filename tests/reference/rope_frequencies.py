"""Makes tests/fixtures/rope_frequencies.json: transformers' inv_freq for several config.json files, each in the spelling
of transformers 4 or 5. Run with transformers 5:  python tests/reference/rope_frequencies.py"""

import copy
import json
import pathlib

from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
ROTARY = [
    (6, {}),
    (48, {"rope_theta": 500000.0, "rope_scaling": None}),
    (128, {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}),
    (64, {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3, "factor": 32.0}}),
    (
        24,
        {"rope_theta": 10000, "rope_scaling": {"type": "llama3", "factor": 3.3, "low_freq_factor": 1.5, "high_freq_factor": 3.7}},
    ),
    (10, {"rope_theta": 12345.678, "rope_scaling": {"type": "linear", "factor": 2.5}}),
    (80, {"rope_parameters": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 3.0}}),
]

cases = []
for head_dim, rotary in ROTARY:
    config = {
        "model_type": "llama",
        "vocab_size": 32,
        "hidden_size": 2 * head_dim,
        "intermediate_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 131072,
        **rotary,
    }
    rope = LlamaRotaryEmbedding(LlamaConfig(**{k: v for k, v in copy.deepcopy(config).items() if k != "model_type"}))
    cases.append({"config": config, "inv_freq": rope.inv_freq.tolist()})
path = pathlib.Path(__file__).parent.parent / "fixtures" / "rope_frequencies.json"
path.write_text(json.dumps(cases, indent=2) + "\n")
