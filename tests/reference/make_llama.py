"""Makes the reference values under values/: small random Llama models and what PyTorch computes with them.

Everything is computed in float64 by transformers and PEFT, each response alone behind its own prompt and without
padding. See README.md. Run from the repository's root: python tests/reference/make_llama.py
"""

import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama
from trl.experimental.cpo import CPOTrainer

VALUES = Path(__file__).parent / "values"
BETA, GAMMA = 2.0, 1.0
LOSSES = {
    "sigmoid": dict(loss_type="sigmoid", label_smoothing=0.0, sft_weight=0.0),
    "sigmoid_label_smoothing": dict(loss_type="sigmoid", label_smoothing=0.1, sft_weight=0.0),
    "hinge": dict(loss_type="hinge", label_smoothing=0.0, sft_weight=0.0),
    "sigmoid_sft": dict(loss_type="sigmoid", label_smoothing=0.0, sft_weight=0.3),
}
# (prompt, chosen, rejected) lengths: a prompt of one token, responses of one token, one pair longer than any tile.
LENGTHS = [(7, 5, 9), (1, 1, 4), (12, 8, 1), (3, 6, 6), (33, 17, 26)]

MODELS = {
    # Tied embeddings, prime vocabulary, as many key/value heads as heads.
    "tied": dict(
        config=dict(
            vocab_size=97, hidden_size=40, intermediate_size=52, num_hidden_layers=2, num_attention_heads=5,
            num_key_value_heads=5, head_dim=8, rms_norm_eps=1e-6, max_position_embeddings=64, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        ),
        storage=torch.float16,
    ),
    # Groups of three heads, a head size that is not hidden / heads, Llama 3's rotary scaling.
    "grouped": dict(
        config=dict(
            vocab_size=131, hidden_size=48, intermediate_size=76, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, head_dim=20, rms_norm_eps=1e-5, max_position_embeddings=512,
            tie_word_embeddings=False,
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        ),
        storage=torch.bfloat16,
        sharded=True,
    ),
    # Odd intermediate size, one key/value head, linear rotary scaling, config.json as transformers 4 wrote it.
    "odd": dict(
        config=dict(
            vocab_size=61, hidden_size=24, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=1, head_dim=6, rms_norm_eps=1e-3, max_position_embeddings=128,
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 2.5},
        ),
        storage=None,
        transformers4=True,
    ),
}


def compute_in_float64() -> None:
    """Replaces the two places of the Llama code that fall back to float32 whatever the model's type.

    Rotary frequencies stay the float32 values that transformers computes; only angles, cosines and sines are float64.
    """

    def norm(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    def tables(self, x, position_ids):
        angles = position_ids[..., None].double() * self.inv_freq.double()
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling

    modeling_llama.LlamaRMSNorm.forward = norm
    modeling_llama.LlamaRotaryEmbedding.forward = torch.no_grad()(tables)


def make_model(spec: dict, seed: int) -> LlamaForCausalLM:
    """A random model with weights large enough for gradients that are not tiny, exact in the spec's storage type."""
    generator = torch.Generator().manual_seed(seed)
    config = LlamaConfig(**spec["config"], bos_token_id=1, eos_token_id=2, initializer_range=0.25)
    config._attn_implementation = "sdpa"
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            values = 1 + 0.2 * noise if name.endswith("norm.weight") else 0.25 * noise
            parameter.copy_(values.to(spec["storage"]).float() if spec["storage"] else values)
    return model


def make_pairs(vocab_size: int, seed: int) -> list[dict]:
    source = random.Random(seed)
    draw = lambda length: [source.randrange(3, vocab_size) for _ in range(length)]
    return [{"prompt": [1, *draw(p - 1)], "chosen": draw(c), "rejected": draw(r)} for p, c, r in LENGTHS]


def score(model, pairs: list[dict]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Per-token log-probs and logits of every response, chosen and rejected of each pair in turn."""
    logprobs, logits = [], []
    for pair in pairs:
        for response in (pair["chosen"], pair["rejected"]):
            ids = torch.tensor([pair["prompt"] + response])
            rows = model(ids).logits[0, len(pair["prompt"]) - 1 : -1]
            logits.append(rows)
            logprobs.append(rows.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0])
    return logprobs, logits


def simpo_loss(logprobs: list[torch.Tensor], averages: torch.Tensor, settings: dict) -> torch.Tensor:
    chosen, rejected = averages[0::2], averages[1::2]
    argument = BETA * (chosen - rejected - GAMMA / BETA)
    if settings["loss_type"] == "hinge":
        losses = torch.relu(1 - argument)
    else:
        eps = settings["label_smoothing"]
        log_sigmoid = torch.nn.functional.logsigmoid
        losses = -(1 - eps) * log_sigmoid(argument) - eps * log_sigmoid(-argument)
        trainer = SimpleNamespace(
            alpha=0.0, beta=BETA, simpo_gamma=GAMMA, label_smoothing=eps, loss_type="simpo",
            accelerator=SimpleNamespace(device="cpu"),
        )
        trl_losses, _, _ = CPOTrainer.cpo_loss(trainer, chosen, rejected)
        torch.testing.assert_close(losses, trl_losses, rtol=1e-12, atol=0)
    # The likelihood term written with its own sums over tokens, so that averages get its gradient too.
    tokens = torch.tensor([len(rows) for rows in logprobs[0::2]])
    return losses.mean() - settings["sft_weight"] * (chosen * tokens).sum() / tokens.sum()


def losses_of(logprobs: list[torch.Tensor]) -> dict:
    out = {}
    for name, settings in LOSSES.items():
        averages = torch.stack([rows.detach().mean() for rows in logprobs]).requires_grad_()
        loss = simpo_loss(logprobs, averages, settings)
        loss.backward()
        out[name] = {
            **settings, "beta": BETA, "gamma": GAMMA,
            "loss": loss.item(), "d_average_logprobs": averages.grad.tolist(),
        }
    return out


def results_of(model, pairs: list[dict]) -> tuple[dict, dict]:
    """What reference.json says of a model, and its gradients by the sigmoid loss."""
    model.zero_grad()
    logprobs, logits = score(model, pairs)
    averages = torch.stack([rows.mean() for rows in logprobs])
    simpo_loss(logprobs, averages, LOSSES["sigmoid"]).backward()
    gradients = {name: p.grad.contiguous() for name, p in model.named_parameters() if p.grad is not None}
    results = {
        "token_logprobs": [rows.tolist() for rows in logprobs],
        "average_logprobs": averages.tolist(),
        "mean_logits": [rows.mean().item() for rows in logits],
        "losses": losses_of(logprobs),
        "grad_norm": torch.stack([g.norm() for g in gradients.values()]).norm().item(),
    }
    return results, gradients


def write_as_transformers4(config_file: Path) -> None:
    """Rewrites config.json with the spelling of transformers 4 and without what it left to defaults."""
    config = json.loads(config_file.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {"type": rope["rope_type"], "factor": rope["factor"]}
    config["torch_dtype"] = config.pop("dtype")
    del config["head_dim"]
    config["transformers_version"] = "4.40.0"
    config_file.write_text(json.dumps(config, indent=2) + "\n")


def make(name: str, spec: dict, seed: int) -> None:
    folder = VALUES / name
    shutil.rmtree(folder, ignore_errors=True)
    model = make_model(spec, seed)
    model.save_pretrained(folder / "model")
    if spec.get("transformers4"):
        write_as_transformers4(folder / "model" / "config.json")
    if spec.get("sharded"):
        model.save_pretrained(folder / "model_sharded", max_shard_size="60KB")
    if spec["storage"]:
        suffix = {torch.float16: "f16", torch.bfloat16: "bf16"}[spec["storage"]]
        model.to(spec["storage"]).save_pretrained(folder / f"model_{suffix}")
    for generation_config in folder.glob("*/generation_config.json"):
        generation_config.unlink()

    model = LlamaForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).double().eval()
    pairs = make_pairs(spec["config"]["vocab_size"], seed)
    results, gradients = results_of(model, pairs)
    save_file(gradients, folder / "gradients.safetensors")
    frequencies = model.model.rotary_emb.inv_freq.tolist()

    config = LoraConfig(r=3, lora_alpha=5, target_modules="all-linear", task_type="CAUSAL_LM")
    peft_model = get_peft_model(model.float(), config)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter_name, parameter in peft_model.named_parameters():
            if "lora_" in parameter_name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    peft_model.peft_config["default"].base_model_name_or_path = f"tests/reference/values/{name}/model"
    peft_model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    # A set in PEFT, in another order each time.
    config_file = folder / "adapter" / "adapter_config.json"
    adapter_config = json.loads(config_file.read_text())
    adapter_config["target_modules"].sort()
    config_file.write_text(json.dumps(adapter_config, indent=2) + "\n")
    lora_results, lora_gradients = results_of(peft_model.double(), pairs)
    save_file(
        {key.replace(".default.", "."): value for key, value in lora_gradients.items()},
        folder / "lora_gradients.safetensors",
    )

    reference = {
        "rotary_frequencies": frequencies,
        "pairs": pairs,
        "full": results,
        "lora": {"r": 3, "alpha": 5, **lora_results},
    }
    (folder / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")
    for kind, values in (("full", results), ("lora", lora_results)):
        print(f"{name} {kind}: loss {values['losses']['sigmoid']['loss']:.6f}, grad norm {values['grad_norm']:.4f}")


def check_against_stock_float32() -> None:
    """The patches above change precision only: unpatched transformers in float32 gives the same averages."""
    for name in MODELS:
        reference = json.loads((VALUES / name / "reference.json").read_text())
        for folder in sorted((VALUES / name).glob("model*")):
            model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            with torch.no_grad():
                logprobs, _ = score(model, reference["pairs"])
            averages = torch.stack([rows.mean() for rows in logprobs]).double()
            expected = torch.tensor(reference["full"]["average_logprobs"], dtype=torch.float64)
            worst = ((averages - expected) / expected).abs().max().item()
            print(f"{name}/{folder.name}: stock float32 within {worst:.1e}")
            assert worst < 1e-5


def make_optimizer() -> None:
    """Three steps of torch's AdamW behind clip_grad_norm_, on two parameters."""
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    parameters = [draw(7).requires_grad_(), draw(3, 5).requires_grad_()]
    settings = dict(lr=0.03, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)
    optimizer = torch.optim.AdamW(parameters, **settings)
    out = {"settings": settings, "max_grad_norm": 3.0, "initial": [p.flatten().tolist() for p in parameters], "steps": []}
    for scale in (0.1, 1.0, 5.0):
        for parameter in parameters:
            parameter.grad = scale * draw(*parameter.shape)
        gradients = [p.grad.flatten().tolist() for p in parameters]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 3.0).item()
        clipped = [p.grad.flatten().tolist() for p in parameters]
        optimizer.step()
        after = [p.detach().flatten().tolist() for p in parameters]
        out["steps"].append(dict(gradients=gradients, norm=norm, clipped=clipped, parameters=after))
    (VALUES / "optimizer.json").write_text(json.dumps(out, indent=1) + "\n")


def main() -> None:
    torch.set_num_threads(1)
    VALUES.mkdir(exist_ok=True)
    stock = modeling_llama.LlamaRMSNorm.forward, modeling_llama.LlamaRotaryEmbedding.forward
    compute_in_float64()
    for seed, (name, spec) in enumerate(MODELS.items(), start=100):
        make(name, spec, seed)
    make_optimizer()
    modeling_llama.LlamaRMSNorm.forward, modeling_llama.LlamaRotaryEmbedding.forward = stock
    check_against_stock_float32()


if __name__ == "__main__":
    main()
