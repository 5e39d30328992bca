"""Makes the reference values under values/peft/: adapters of the families as PEFT saves them, and what transformers
computes with them.

Factors and saved modules are random. Everything is computed in float64, each response alone behind its own prompt and
without padding; PEFT's merge gives the same. See README.md.
Run from the repository's root: python tests/reference/make_peft.py [NAME ...]
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

import torch
from make_families import VALUES as FAMILIES
from make_families import FAMILIES as SETTINGS
from make_families import compute_in_float64, load, score_candidates
from make_llama import results_of
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

VALUES = Path("tests/reference/values/peft")

# Name: the family it is for, and what differs from LoRA of r 3 and alpha 5.
ADAPTERS = {
    "llama": ("llama_llama3", dict(target_modules="all-linear")),
    "mistral": ("mistral", dict(target_modules=["q_proj", "v_proj"], use_rslora=True)),
    # Saved with their biases.
    "qwen2_values": ("qwen2", dict(target_modules=["q_proj", "v_proj", "up_proj"], modules_to_save=["v_proj"])),
    "qwen3": ("qwen3", dict(target_modules="all-linear", use_rslora=True)),
    # Below the lowest factors only norms are trained: all that end so, those of queries and keys among them.
    "qwen3_norms": ("qwen3", dict(target_modules=["o_proj"], layers_to_transform=[1], modules_to_save=["norm"])),
    # PEFT unties the head, which stays as it is in the base.
    "gemma2_embedding": ("gemma2", dict(target_modules=["k_proj", "down_proj"], modules_to_save=["embed_tokens"])),
    "gemma3": ("gemma3_text", dict(target_modules=r".*\.(q|gate)_proj")),
    "gemma3_tied": (
        "gemma3_text", dict(target_modules=["v_proj"], modules_to_save=["lm_head"], ensure_weight_tying=True),
    ),
    "phi3": ("phi3", dict(target_modules=["qkv_proj", "gate_up_proj"])),
    "phi3_head": ("phi3", dict(target_modules="all-linear", modules_to_save=["lm_head", "self_attn"])),
    "gpt2": ("gpt2", dict(target_modules=["c_attn", "c_proj", "c_fc"], use_rslora=True)),
    "gpt2_saved": ("gpt2", dict(target_modules=["c_attn"], modules_to_save=["wpe", "ln_f", "c_fc", "lm_head"])),
    "llama_patterns": ("llama_llama3", dict(
        target_modules=["q_proj", "k_proj", "down_proj"], exclude_modules=["0.self_attn.k_proj"], use_rslora=True,
        rank_pattern={"q_proj": 5, "layers.1.mlp.down_proj": 1}, alpha_pattern={".*0.self_attn.q_proj": 7, "k_proj": 2},
    )),
    # Of the first block the norm of what attention gives is trained, and nothing before it.
    "olmo2": ("olmo2", dict(
        target_modules=["q_proj", "up_proj"], layers_to_transform=[1], modules_to_save=["post_attention_layernorm"],
    )),
    "granite": ("granite", dict(target_modules="all-linear", use_rslora=True)),
}


def randomise(model, seed: int) -> None:
    """Gives what is trained values far from those at which it would not matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if "lora_" in name:
                parameter.copy_(0.2 * noise)
            else:
                parameter.add_(0.1 * noise)


def file_name(parameter: str) -> str:
    return parameter.replace(".modules_to_save.default", "").replace(".default", "")


def make(name: str, seed: int) -> None:
    family, settings = ADAPTERS[name]
    folder = VALUES / name
    shutil.rmtree(folder, ignore_errors=True)
    base = Path("tests/reference/values/families") / family
    settings = {"r": 3, "lora_alpha": 5, **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied tables, which are meant here
        model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", **settings))
    randomise(model, seed)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    reference = json.loads((FAMILIES / family / "reference.json").read_text())

    replaced = compute_in_float64(SETTINGS[family][0])
    model = model.double().eval()
    results, gradients = results_of(model, reference["pairs"])
    asked = {key: reference["candidates"][key] for key in ("prompt", "responses")}
    candidates = score_candidates(model, asked)["token_logprobs"]
    gradients = {file_name(parameter): gradient.float() for parameter, gradient in gradients.items()}
    stored = load_file(folder / "adapter_model.safetensors")
    assert gradients.keys() == stored.keys() - ({"base_model.model.lm_head.weight"} if name == "gemma3_tied" else set())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = score_candidates(model.merge_and_unload(), asked)["token_logprobs"]
    for (owner, attribute), stock in replaced.items():
        setattr(owner, attribute, stock)
    worst = max(abs(a - b) for one, other in zip(candidates, merged) for a, b in zip(one, other))
    assert worst < 1e-9, worst

    save_file(gradients, folder / "gradients.safetensors")
    values = {
        "family": family, "loss": results["losses"]["sigmoid"]["loss"],
        "token_logprobs": results["token_logprobs"], "candidates": candidates,
    }
    (folder / "reference.json").write_text(json.dumps(values, indent=1) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1024
    print(f"{name}: loss {values['loss']:.6f}, grad norm {results['grad_norm']:.4f}, {size:.0f} KiB")


def main() -> None:
    torch.set_num_threads(1)
    for seed, name in enumerate(ADAPTERS, start=300):
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            make(name, seed)


if __name__ == "__main__":
    main()
