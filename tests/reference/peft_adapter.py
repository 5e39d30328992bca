"""Makes tests/fixtures/peft_adapter: an adapter of a tiny Llama as PEFT saves it, beside its base's config.json.

Element k of each factor, counted in the order of its memory, is k / 16 - 1 in A and 1 - k / 32 in B, so that the test
knows the values without a file. Run with PEFT 0.21 and transformers 5:  python tests/reference/peft_adapter.py
"""

import pathlib
import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

folder = pathlib.Path(__file__).parent.parent / "fixtures" / "peft_adapter"
base = LlamaConfig(
    vocab_size=32,
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=1,
    max_position_embeddings=64,
)
lora = LoraConfig(
    r=2, lora_alpha=4, lora_dropout=0.05, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"
)
model = get_peft_model(LlamaForCausalLM(base), lora)
model.peft_config["default"].base_model_name_or_path = "tiny-llama"
with torch.no_grad():
    for name, weight in model.named_parameters():
        k = torch.arange(weight.numel(), dtype=torch.float32).reshape(weight.shape)
        if "lora_A" in name:
            weight.copy_(k / 16 - 1)
        elif "lora_B" in name:
            weight.copy_(1 - k / 32)
with tempfile.TemporaryDirectory() as saved:
    model.save_pretrained(saved, save_embedding_layers=False)
    base.save_pretrained(saved)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ["adapter_config.json", "config.json"]:
        # Only the line's end is added: the formatter asks for it.
        (folder / name).write_text((pathlib.Path(saved) / name).read_text().rstrip("\n") + "\n")
    (folder / "adapter_model.safetensors").write_bytes(
        (pathlib.Path(saved) / "adapter_model.safetensors").read_bytes()
    )
