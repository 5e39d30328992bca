"""Makes the reference values under values/folders/: model folders as the hub has them, and what transformers computes
with them: a text model inside a wrapper, a head that is not
tied though the file says so.

Everything is computed in float64, each response alone behind its own prompt and without padding. See README.md.
Run from the repository's root: python tests/reference/make_folders.py [NAME ...]
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from make_families import VOCABULARY, compute_in_float64, exact_in_all_types, make_candidates, score_candidates
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

VALUES = Path("tests/reference/values/folders")

VISION = dict(
    hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14,
)
# Name: whose code computes it, config.json as the hub has it.
FOLDERS = {
    # The text_config says as little as Gemma's own: of heads, their size, windows' pattern, rotary bases and scales nothing.
    "gemma3": ("Gemma3Text", {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "mm_tokens_per_image": 4,
        "boi_token_index": 57, "eoi_token_index": 58, "image_token_index": 59, "eos_token_id": [1, 3],
        "initializer_range": 0.02,
        "text_config": {
            "hidden_size": 8, "intermediate_size": 12, "model_type": "gemma3_text", "num_hidden_layers": 6,
            "num_attention_heads": 4, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 5,
            "vocab_size": VOCABULARY,
        },
        "vision_config": {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False},
    }),
    "mistral3": ("Mistral", {
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "image_token_index": 10,
        "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": 2,
        "text_config": {
            "attention_dropout": 0.0, "head_dim": 6, "hidden_act": "silu", "hidden_size": 24,
            "initializer_range": 0.02, "intermediate_size": 29, "max_position_embeddings": 131072,
            "model_type": "mistral", "num_attention_heads": 8, "num_hidden_layers": 2, "rms_norm_eps": 1e-05,
            "rope_theta": 1000000000.0, "sliding_window": None, "use_cache": True, "vocab_size": VOCABULARY,
        },
        "vision_config": {**VISION, "model_type": "pixtral", "head_dim": 4},
        "vision_feature_layer": -1,
    }),
    # tie_word_embeddings is true, and there is another head in the file.
    "own_head": ("Qwen2", {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": 24,
        "intermediate_size": 29, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1,
        "hidden_act": "swish", "bos_token_id": -1, "eos_token_id": 2, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }),
}


def load(folder: Path):
    config = AutoConfig.from_pretrained(folder)
    kind = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()


def randomise(model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gemma = model.config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = "norm" in name or ".ln_" in name
            around = 0 if not norm or name.endswith(".bias") or gemma else 1
            parameter.copy_(exact_in_all_types(around + 0.25 * noise))


def make(name: str, seed: int) -> None:
    family, config = FOLDERS[name]
    folder = VALUES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    parsed = AutoConfig.from_pretrained(folder)
    if name in ("mistral3", "own_head"):  # a head of its own
        parsed.tie_word_embeddings = False
    kind = AutoModelForImageTextToText if hasattr(parsed, "vision_config") else AutoModelForCausalLM
    model = kind.from_config(parsed).eval()
    randomise(model, seed)
    model.bfloat16().save_pretrained(folder)
    # as it was written above: save_pretrained fills in what is left out
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").unlink(missing_ok=True)

    asked = make_candidates(config.get("bos_token_id", 2) % VOCABULARY, seed)
    stock = score_candidates(load(folder), asked)["token_logprobs"]
    replaced = compute_in_float64(family)
    candidates = score_candidates(load(folder).double(), asked)
    for (owner, attribute), before in replaced.items():
        setattr(owner, attribute, before)
    pairs = zip(sum(candidates["token_logprobs"], []), sum(stock, []))
    worst = max(abs(a - b) for a, b in pairs)
    assert worst < 2e-5, worst
    (folder / "reference.json").write_text(json.dumps({"candidates": candidates}, indent=1) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1024
    print(f"{name}: stock float32 within {worst:.1e}, {size:.0f} KiB")


def eva(model, seed: int):
    """EVA gives its ranks out by the activations of some data."""
    generator = torch.Generator().manual_seed(seed)
    batches = [{"input_ids": torch.randint(3, VOCABULARY, (4, 12), generator=generator)} for _ in range(4)]
    initialize_lora_eva_weights(model, batches, show_progress_bar=False)


# Name: the base's folder, settings beside r 4 and alpha 5, and the rows that its tables have got.
ADAPTERS = {
    # q_proj names layers of the vision tower too.
    "wrapped": ("folders/gemma3", dict(target_modules=["q_proj", "down_proj"]), VOCABULARY),
    "eva": ("families/llama_llama3", dict(
        target_modules=["q_proj", "down_proj", "o_proj"], init_lora_weights="eva", eva_config=EvaConfig(rho=2.0, tau=0.5),
    ), VOCABULARY),
    "orthogonal": ("families/llama_llama3", dict(target_modules=["v_proj"], init_lora_weights="orthogonal"), VOCABULARY),
    "resized": ("families/llama_llama3", dict(target_modules=["q_proj"], init_lora_weights="gaussian"), VOCABULARY + 4),
    "resized_tied": ("families/qwen2", dict(target_modules=["q_proj"]), VOCABULARY + 4),
    "resized_saved": ("families/qwen2", dict(target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head"]), VOCABULARY + 4),
}


def make_adapter(name: str, seed: int) -> None:
    base, settings, rows = ADAPTERS[name]
    folder = VALUES.parent / "folder_adapters" / name
    shutil.rmtree(folder, ignore_errors=True)
    source = VALUES.parent / base
    model = load(source)
    if rows != VOCABULARY:
        model.resize_token_embeddings(rows)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 5, **settings}))
    if name == "eva":
        eva(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "lora_" in parameter_name:
                parameter.copy_(0.2 * noise)
            elif "embed_tokens" in parameter_name or "lm_head" in parameter_name:
                parameter[VOCABULARY:].copy_(0.25 * noise[VOCABULARY:])
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    family = model.config.model_type
    replaced = compute_in_float64({"gemma3": "Gemma3Text", "llama": "Llama", "qwen2": "Qwen2"}[family])
    asked = make_candidates(2, seed)
    asked["responses"] = [[id + rows - VOCABULARY for id in response] for response in asked["responses"]]
    candidates = score_candidates(model.double().eval(), asked)
    for (owner, attribute), before in replaced.items():
        setattr(owner, attribute, before)
    reference = {"base": base, "candidates": candidates}
    (folder / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")
    config = json.loads((folder / "adapter_config.json").read_text())
    print(name, {key: config[key] for key in ("rank_pattern", "alpha_pattern", "r", "target_modules")})
    print({key: tuple(value.shape) for key, value in load_file(folder / "adapter_model.safetensors").items()})


def windows_of(config) -> list:
    """The window of each block; null: none."""
    sliding = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    if config.model_type == "llama":
        sliding = None
    return [sliding if kind == "sliding_attention" else None for kind in kinds]


def make_defaults() -> None:
    """What the classes fill in for a file that names its sizes alone, and for an empty text_config."""
    sizes = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=48, num_hidden_layers=7, num_attention_heads=32)
    kinds = "llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi3 olmo2 smollm3 granite".split()
    files = [{"model_type": kind, **sizes} for kind in kinds]
    files += [{"model_type": kind, "text_config": {}} for kind in ("gemma3", "mistral3")]
    cases = []
    for file in files:
        parsed = AutoConfig.for_model(**file)
        text = getattr(parsed, "text_config", parsed)
        ropes = text.rope_parameters
        ropes = [ropes[kind] for kind in ("full_attention", "sliding_attention")] if "full_attention" in ropes else [ropes]
        expected = {
            "vocab_size": text.vocab_size, "hidden_size": text.hidden_size, "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_hidden_layers, "num_attention_heads": text.num_attention_heads,
            "num_key_value_heads": text.num_key_value_heads,
            "head_dim": getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
            "rms_norm_eps": text.rms_norm_eps, "max_position_embeddings": text.max_position_embeddings,
            "tie_word_embeddings": parsed.tie_word_embeddings, "windows": windows_of(text),
            "rope_thetas": [rope["rope_theta"] for rope in ropes],
            "query_pre_attn_scalar": getattr(text, "query_pre_attn_scalar", None),
            "attention_multiplier": getattr(text, "attention_multiplier", None),
            "rotated": [bool(one) for one in getattr(text, "no_rope_layers", [1] * text.num_hidden_layers)],
            "softcaps": [getattr(text, f"{what}_logit_softcapping", None) for what in ("attn", "final")],
        }
        cases.append({"config": file, "expected": expected})
    (VALUES / "defaults.json").write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")


def main() -> None:
    torch.set_num_threads(1)
    make_defaults()
    for seed, name in enumerate(FOLDERS, start=400):
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            make(name, seed)
    for seed, name in enumerate(ADAPTERS, start=420):
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            make_adapter(name, seed)


if __name__ == "__main__":
    main()
