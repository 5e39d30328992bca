"""Makes the reference values under values/families/: a small random model of every family, and what
transformers computes with it.

Everything is computed in float64, each response alone behind its own prompt and without padding. See README.md.
Run from the repository's root: python tests/reference/make_families.py [NAME ...]
"""

import copy
import importlib
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from make_llama import make_pairs, results_of, score
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update

VALUES = Path(__file__).parent / "values" / "families"
VOCABULARY = 61
# Candidates under one prompt: lengths on both sides of every window and of every context that rotary scaling knows.
CANDIDATES = (10, [4, 1, 17, 8])
# Lengths of sequences at which rotary frequencies are written down; 16 is the original context where there is one.
LENGTHS = [16, 17, 20, 59]

NARROW = dict(vocab_size=VOCABULARY, hidden_size=24, rms_norm_eps=1e-5, max_position_embeddings=128)
GEMMA = dict(
    **NARROW, intermediate_size=29, hidden_activation="gelu_pytorch_tanh", bos_token_id=2, eos_token_id=1,
    pad_token_id=0, tie_word_embeddings=True,
)
LLAMA = dict(
    vocab_size=VOCABULARY, hidden_size=24, intermediate_size=27, num_hidden_layers=2, num_attention_heads=3,
    num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=False,
)
PHI3 = dict(
    **NARROW, intermediate_size=29, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
    pad_token_id=None, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
)
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 16,
    "short_factor": [1.0, 1.05, 1.2, 1.5], "long_factor": [1.1, 1.9, 3.3, 4.7],
}

FAMILIES = {
    "mistral": ("Mistral", dict(
        **NARROW, intermediate_size=29, num_hidden_layers=2, num_attention_heads=9, num_key_value_heads=3, head_dim=4,
        sliding_window=7, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
    )),
    "qwen2": ("Qwen2", dict(
        vocab_size=VOCABULARY, hidden_size=36, intermediate_size=29, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-6, max_position_embeddings=128, tie_word_embeddings=True,
        sliding_window=7, use_sliding_window=False, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )),
    # Layers from max_window_layers on have a window.
    "qwen2_window": ("Qwen2", dict(
        **NARROW, intermediate_size=29, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
        tie_word_embeddings=False, sliding_window=6, use_sliding_window=True, max_window_layers=1, bos_token_id=1,
        eos_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )),
    "qwen3": ("Qwen3", dict(
        **NARROW, intermediate_size=29, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=10,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )),
    "gemma2": ("Gemma2", dict(
        **GEMMA, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=6,
        query_pre_attn_scalar=11, sliding_window=6, attn_logit_softcapping=1.5, final_logit_softcapping=2.0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )),
    "gemma3_text": ("Gemma3Text", dict(
        **GEMMA, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=1, head_dim=6,
        query_pre_attn_scalar=13, sliding_window=5,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
        },
    )),
    "phi3": ("Phi3", dict(**PHI3, sliding_window=None, rope_parameters={"rope_type": "default", "rope_theta": 500.0})),
    "phi3_window": ("Phi3", dict(
        **PHI3, sliding_window=7, rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )),
    # One pair, and the candidates, have responses on both sides of the original context.
    "phi3_longrope": ("Phi3", dict(
        **PHI3, sliding_window=None, original_max_position_embeddings=16, rope_parameters=LONGROPE,
    )),
    # Phi-4-mini's: only the first half of each head is turned.
    "phi3_partial": ("Phi3", dict(
        **PHI3, sliding_window=None, original_max_position_embeddings=16,
        rope_parameters={
            **LONGROPE, "partial_rotary_factor": 0.5, "short_factor": [1.0, 1.2], "long_factor": [1.3, 3.3],
        },
    )),
    "gpt2": ("GPT2", dict(
        vocab_size=VOCABULARY, n_embd=30, n_head=5, n_layer=2, n_inner=41, n_positions=64, bos_token_id=60,
        eos_token_id=60, tie_word_embeddings=True,
    )),
    "llama_linear": ("Llama", dict(
        **LLAMA, max_position_embeddings=128,
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 2.5},
    )),
    "llama_dynamic": ("Llama", dict(
        **LLAMA, max_position_embeddings=16,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 500.0, "factor": 3.0},
    )),
    "llama_llama3": ("Llama", dict(
        **LLAMA, max_position_embeddings=128,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )),
    "llama_yarn": ("Llama", dict(
        **LLAMA, max_position_embeddings=128,
        rope_parameters={
            "rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32,
            "beta_fast": 8.0, "beta_slow": 0.5,
        },
    )),
    "gpt2_odd": ("GPT2", dict(
        vocab_size=VOCABULARY, n_embd=15, n_head=3, n_layer=2, n_positions=64, activation_function="gelu_fast",
        bos_token_id=60, eos_token_id=60, tie_word_embeddings=True,
    )),
    # Queries and keys are normed over all heads together.
    "olmo2": ("Olmo2", dict(
        **NARROW, intermediate_size=29, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        pad_token_id=None, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )),
    "llama_bias": ("Llama", dict(
        **LLAMA, max_position_embeddings=128, attention_bias=True, mlp_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )),
    "qwen3_bias": ("Qwen3", dict(
        **NARROW, intermediate_size=29, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=10,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, attention_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )),
    # Layers 0 and 2 are rotated.
    "smollm3": ("SmolLM3", dict(
        **NARROW, intermediate_size=29, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        no_rope_layers=[1, 0, 1], pad_token_id=None, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )),
    "granite": ("Granite", dict(
        **NARROW, intermediate_size=29, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        embedding_multiplier=3.0, logits_scaling=2.5, residual_multiplier=0.625, attention_multiplier=0.3125,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )),
    "gemma": ("Gemma", dict(
        **NARROW, intermediate_size=29, hidden_act="gelu_pytorch_tanh", bos_token_id=2, eos_token_id=1,
        pad_token_id=0, tie_word_embeddings=True, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        head_dim=6, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )),
}


# Rotary settings as published models have them, and each option by itself: head size, settings, lengths.
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32768}
LONG = {"short_factor": [1 + i / 100 for i in range(48)], "long_factor": [1 + i**2 / 40 for i in range(48)]}
LONG_LLAMA = {"rope_type": "longrope", "rope_theta": 10000.0, **LONG}
LONG_PHI3 = {
    "max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "rope_theta": 10000.0,
    "rope_scaling": {"type": "longrope", **LONG},
}
YARN_QWEN2 = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
GEMMA3 = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
ROPES = [
    ("llama", 64, {"rope_theta": 1e4, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, [2047, 2048, 2049, 8191]),
    ("llama", 128, {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 5e5, "factor": 1.5}}, [3000]),
    ("qwen2", 128, {"rope_theta": 1e6, "rope_scaling": YARN_QWEN2}, []),
    ("qwen3", 128, {"rope_parameters": {**YARN, "rope_theta": 1e6}}, []),
    ("llama", 64, {"rope_parameters": {**YARN, "original_max_position_embeddings": 4096, "truncate": False}}, []),
    ("llama", 64, {"rope_parameters": {**YARN, "beta_fast": 16, "beta_slow": 2}}, []),
    ("llama", 64, {"rope_parameters": {**YARN, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.3}}, []),
    ("llama", 64, {"rope_parameters": {**YARN, "mscale": 0.707}}, []),
    ("llama", 64, {"rope_parameters": {**YARN, "attention_factor": 0.9}}, []),
    ("llama", 64, {"rope_theta": 1e4, "rope_scaling": {"rope_type": "yarn", "factor": 0.5}}, []),
    ("phi3", 96, LONG_PHI3, [4096, 4097]),
    ("phi3", 128, {**LONG_PHI3, "partial_rotary_factor": 0.75}, [4097]),
    ("llama", 96, {"rope_parameters": {**LONG_LLAMA, "factor": 8.0, "original_max_position_embeddings": 1024}}, [1025]),
    ("llama", 96, {"rope_parameters": {**LONG_LLAMA, "original_max_position_embeddings": 1024}}, [1024]),
    ("llama", 96, {"rope_parameters": {**LONG_LLAMA, "attention_factor": 1.1}}, [2048, 2049]),
    ("gemma3_text", 256, GEMMA3, []),
    ("gemma3_text", 256, {}, []),
    ("gemma2", 256, {}, []),
]


def gemma_norm(self, x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


def llama_norm(self, x):
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


@torch.no_grad()
@dynamic_rope_update
def tables(self, x, position_ids, layer_type=None):
    prefix = "" if layer_type is None else f"{layer_type}_"
    angles = position_ids[..., None].double() * getattr(self, f"{prefix}inv_freq").double()
    angles = torch.cat((angles, angles), dim=-1)
    scaling = getattr(self, f"{prefix}attention_scaling")
    return angles.cos() * scaling, angles.sin() * scaling


def capped_attention(module, query, key, value, attention_mask, scaling, softcap=None, **_):
    """Gemma 2's attention, which stock transformers has as eager code with a softmax in float32."""
    key, value = (x.repeat_interleave(module.num_key_value_groups, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    scores = softcap * torch.tanh(scores / softcap) + attention_mask
    return (scores.softmax(-1) @ value).transpose(1, 2).contiguous(), None


def compute_in_float64(family: str) -> dict:
    """Replaces what a family's code computes in float32 whatever the model's type: norms, rotary angles and Gemma 2's
    softmax. Rotary frequencies and Gemma's embedding scale stay the float32 values that transformers computes.

    Returns what undoes it.
    """
    name = {"Gemma3Text": "Gemma3"}.get(family, family)
    code = importlib.import_module(f"transformers.models.{name.lower()}.modeling_{name.lower()}")
    replaced = {}

    def replace(owner, attribute, by):
        if hasattr(owner, attribute):
            replaced[owner, attribute] = getattr(owner, attribute)
            setattr(owner, attribute, by)

    if name != "GPT2":
        replace(getattr(code, f"{name}RMSNorm"), "forward", gemma_norm if name.startswith("Gemma") else llama_norm)
        replace(getattr(code, f"{name}RotaryEmbedding"), "forward", tables)
    if name == "Gemma2":
        replace(code, "eager_attention_forward", capped_attention)
    return replaced


def exact_in_all_types(values: torch.Tensor) -> torch.Tensor:
    """The nearest values that bf16 and f16 both hold, so that one reference serves files of every type."""
    values = values.bfloat16().half().bfloat16().float()
    assert torch.equal(values.half().float(), values) and torch.equal(values.bfloat16().float(), values)
    return values


def make_model(family: str, settings: dict, seed: int):
    """A random model, every parameter (norms and biases too) far from the value at which it would not matter."""
    generator = torch.Generator().manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**settings, initializer_range=0.25)
    config._attn_implementation = "eager" if family == "Gemma2" else "sdpa"
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = name.endswith(("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight"))
            if name.endswith(".bias") or (is_norm and family.startswith("Gemma")):
                values = 0.3 * noise
            elif is_norm:
                values = 1 + 0.2 * noise
            else:
                values = 0.25 * noise
            parameter.copy_(exact_in_all_types(values))
    return model


def forget_lengths(model) -> None:
    """Makes rotary scaling that depends on the length depend on the sequence at hand alone.

    Stock `dynamic` keeps the frequencies of the longest sequence seen until one comes that is shorter than the
    original context: what a sequence gets would depend on what came before it.
    """
    rotary = getattr(model.base_model, "rotary_emb", None)
    if getattr(rotary, "rope_type", None) == "dynamic":

        def forget(*_):
            rotary.inv_freq = rotary.original_inv_freq.clone()
            rotary.max_seq_len_cached = rotary.original_max_seq_len

        model.register_forward_pre_hook(forget)


def make_candidates(bos: int, seed: int) -> dict:
    source = random.Random(seed)
    draw = lambda length: [source.randrange(3, VOCABULARY - 1) for _ in range(length)]
    prompt, lengths = CANDIDATES
    return {"prompt": [bos, *draw(prompt - 1)], "responses": [draw(length) for length in lengths]}


def score_candidates(model, candidates: dict) -> dict:
    logprobs = []
    with torch.no_grad():
        for response in candidates["responses"]:
            ids = torch.tensor([candidates["prompt"] + response])
            rows = model(ids).logits[0, len(candidates["prompt"]) - 1 : -1].log_softmax(-1)
            logprobs.append(rows.gather(-1, torch.tensor(response)[:, None])[:, 0])
    averages = [rows.mean().item() for rows in logprobs]
    return {**candidates, "token_logprobs": [rows.tolist() for rows in logprobs], "average_logprobs": averages}


def rotary_of(config, lengths: list[int]) -> list[dict]:
    """Rotary frequencies [dimensions / 2] and the factor on cosines and sines, by kind of layer (null: all) and, where
    the kind of scaling asks for it, by the length of the sequence."""
    if config.model_type == "gpt2":
        return []
    rotary = AutoModelForCausalLM.from_config(config).model.rotary_emb
    out = []
    for layer_type in ["sliding_attention", "full_attention"] if config.model_type == "gemma3_text" else [None]:
        rope = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
        compute = ROPE_INIT_FUNCTIONS.get(rope["rope_type"], rotary.compute_default_rope_parameters)
        more = {} if layer_type is None else {"layer_type": layer_type}
        for length in lengths if rope["rope_type"] in ("dynamic", "longrope") else [None]:
            seq_len = None if length is None else torch.tensor(length)
            frequencies, factor = compute(config, device=torch.device("cpu"), seq_len=seq_len, **more)
            out.append({
                "layer_type": layer_type, "length": length, "frequencies": frequencies.tolist(),
                "attention_factor": float(factor),
            })
    return out


def as_transformers4(config: dict) -> dict:
    """config.json as the hub has it: written by transformers 4, without what it left to defaults or computed."""
    config = dict(config)
    family = config["model_type"]
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.49.0"
    rope = config.pop("rope_parameters", None)
    if family == "gpt2":
        return config
    if family == "gemma3_text":
        del config["_sliding_window_pattern"], config["use_bidirectional_attention"]
        kinds = config.pop("layer_types")
        config["sliding_window_pattern"] = kinds.index("full_attention") + 1
        full, sliding = rope["full_attention"], rope["sliding_attention"]
        config |= {"rope_theta": full["rope_theta"], "rope_local_base_freq": sliding["rope_theta"]}
        config["rope_scaling"] = {"rope_type": full["rope_type"], "factor": full["factor"]}
        return config
    # transformers 4 knew which layers have a window from the family and its other settings alone.
    config.pop("layer_types", None)
    if family in ("qwen2", "qwen3") and not config["use_sliding_window"]:
        config["sliding_window"] = 4096
    if family == "gemma2":
        config["hidden_act"] = config["hidden_activation"]
    rope = dict(rope)
    config["rope_theta"] = rope.pop("rope_theta")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        config["partial_rotary_factor"] = rope["partial_rotary_factor"]
    rope.pop("partial_rotary_factor", None)
    kind = rope.pop("rope_type")
    if family == "phi3":
        rope.pop("original_max_position_embeddings", None)
        config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    else:
        key = "type" if kind in ("linear", "dynamic") else "rope_type"
        config["rope_scaling"] = None if kind == "default" else {key: kind, **rope}
    return config


def load(folder: Path):
    config = AutoConfig.from_pretrained(folder)
    attention = "eager" if config.model_type == "gemma2" else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()
    forget_lengths(model)
    return model


def make(name: str, seed: int) -> None:
    family, settings = FAMILIES[name]
    folder = VALUES / name
    shutil.rmtree(folder, ignore_errors=True)
    make_model(family, settings, seed).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config_transformers4.json").write_text(json.dumps(as_transformers4(config), indent=2) + "\n")

    replaced = compute_in_float64(family)
    model = load(folder).double()
    bos = model.config.bos_token_id
    pairs = make_pairs(VOCABULARY - 1, seed)
    for pair in pairs:
        pair["prompt"][0] = bos
    results, gradients = results_of(model, pairs)
    candidates = score_candidates(model, make_candidates(bos, seed))
    for (owner, attribute), stock in replaced.items():
        setattr(owner, attribute, stock)

    # The tied head has no gradient of its own, and every other parameter matters.
    assert all(gradient.abs().max() > 1e-4 for gradient in gradients.values()), name
    save_file({key: gradient.float() for key, gradient in gradients.items()}, folder / "gradients.safetensors")
    reference = {"rotary": rotary_of(model.config, LENGTHS), "pairs": pairs, "full": results, "candidates": candidates}
    (folder / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")

    worst = check_against_stock_float32(folder, folder)
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(folder / "model.safetensors", copy)
        shutil.copy(folder / "config_transformers4.json", Path(copy) / "config.json")
        check_against_stock_float32(Path(copy), folder)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1024
    loss, norm = results["losses"]["sigmoid"]["loss"], results["grad_norm"]
    print(f"{name}: loss {loss:.6f}, grad norm {norm:.4f}, stock float32 within {worst:.1e}, {size:.0f} KiB")


def check_against_stock_float32(model_folder: Path, values_folder: Path) -> float:
    """Unpatched transformers in float32 gives the same log-probs; for both spellings of config.json."""
    reference = json.loads((values_folder / "reference.json").read_text())
    model = load(model_folder)
    with torch.no_grad():
        logprobs, _ = score(model, reference["pairs"])
    candidates = score_candidates(model, {key: reference["candidates"][key] for key in ("prompt", "responses")})
    found = torch.cat([*logprobs, *map(torch.tensor, candidates["token_logprobs"])]).double()
    expected = sum(reference["full"]["token_logprobs"] + reference["candidates"]["token_logprobs"], [])
    worst = (found - torch.tensor(expected, dtype=torch.float64)).abs().max().item()
    assert worst < 2e-5, f"{model_folder}: {worst}"
    return worst


def make_ropes() -> None:
    """Rotary frequencies of config.json files that no small model could have."""
    cases = []
    for model_type, head_dim, settings, lengths in ROPES:
        config = {
            "model_type": model_type, "vocab_size": 32, "hidden_size": 2 * head_dim, "intermediate_size": 20,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048,
            **({} if model_type in ("qwen2", "phi3") else {"head_dim": head_dim}), "eos_token_id": 2,
            "pad_token_id": None, **settings,
        }
        parsed = AutoConfig.for_model(**copy.deepcopy(config))
        cases.append({"config": config, "rotary": rotary_of(parsed, lengths)})
    (VALUES / "rope.json").write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")


def main() -> None:
    torch.set_num_threads(1)
    VALUES.mkdir(parents=True, exist_ok=True)
    make_ropes()
    for seed, name in enumerate(FAMILIES, start=200):
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            make(name, seed)


if __name__ == "__main__":
    main()
