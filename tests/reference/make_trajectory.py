"""Makes values/trajectory/: 20 optimiser steps of TRL's CPOTrainer (SimPO) on tiny models, full and with (rs)LoRA.

See README.md. Run from the repository's root: python tests/reference/make_trajectory.py
"""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

os.environ |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}

import torch
from datasets import Dataset
from make_families import compute_in_float64, make_model
from make_tokens import GPT4_SPLIT, LLAMA3_TEMPLATE, QWEN3_TEMPLATE, byte_level, special, starts_with, write_tokenizer
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import normalizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.cpo import CPOConfig, CPOTrainer

VALUES = Path(__file__).parent / "values" / "trajectory"
STEPS, ACCUMULATION, BATCH = 20, 2, 2

# Names as the worker's settings have them; batch_size is a step's, max_prompt_length such that no prompt is cut.
SETTINGS = {
    # Such that the norm of LoRA's gradients is now above max_grad_norm and now below.
    "method": {
        "type": "simpo", "beta": 1.0, "gamma": 0.5, "loss_type": "sigmoid", "label_smoothing": 0.0, "sft_weight": 0.0,
    },
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.15,
    "num_train_epochs": 1,
    "batch_size": ACCUMULATION * BATCH,
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "max_length": 96,
    "max_prompt_length": 96,
    "prompt_boundary": "trl",
}
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"}

COMMON = dict(
    hidden_size=36, intermediate_size=45, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
    head_dim=8, max_position_embeddings=128, rms_norm_eps=1e-5,
)
MODELS = {
    "llama": ("Llama", dict(
        **COMMON, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )),
    "qwen3": ("Qwen3", dict(
        **COMMON, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )),
}
LEARNING_RATES = {"full": 5e-4, "lora": 4e-3, "rslora": 2e-3}
RUNS = [("llama", "full"), ("llama", "lora"), ("qwen3", "full"), ("qwen3", "lora"), ("qwen3", "rslora")]

# (question, better, worse)
ANSWERS = [
    ("What is the capital of the island?", "Port Hale.", "I don't know, maybe somewhere near the sea?"),
    ("How many boats passed today?", "Three: two red, one blue.", "Boats."),
    ("Add 17 and 25.", "17 + 25 = 42", "17 + 25 = 32, I think"),
    ("Translate 'good morning' into German.", "Guten Morgen", "Gute Nacht"),
    ("When does the tide come in?", "Twice a day.", "The tide is made of water, and water is wet. The tide is wet."),
    ("Name a colour.", "Blue", "Colours are a property of light, and there are many of them, as everybody knows."),
    ("Is the harbour master in?", "Yes, until five.", "No idea!"),
    ("Write one line of Python.", "print(sum(range(10)))", "int main() { return 0; }"),
    ("Who wrote down the boats?", "The harbour master did.", "She did, or he did, or they did."),
    ("Is 7 a prime?", "Yes", "No"),
    ("What's the weather in the evening? 🌧", "Rain from the west, 12°C.", "🙂🙂🙂"),
    ("Où est le phare ?", "À l'est du port.", "The lighthouse is a tall building with a lamp."),
    ("Continue: one, two, three,", "four, five", "three, two, one"),
    ("Spell 'sail'.", "s-a-i-l", "s-a-l-e"),
    ("今天的天气怎么样?", "天气很好。", "Good."),
    ("Say nothing.", "…", "Nothing. There, I said it, and I would say it again if you asked me to say it."),
]


def llama_tokenizer() -> tuple:
    """Llama 3's kind: BOS in the template, and a turn that ends with EOS and nothing behind it."""
    tokenizer = byte_level(GPT4_SPLIT.replace("DIGITS", "{1,3}"), 302)
    names = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer.add_special_tokens(special(*names))
    bos = starts_with(names[0], tokenizer)
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), bos])
    config = dict(bos_token=names[0], eos_token=names[4], pad_token=names[1], chat_template=LLAMA3_TEMPLATE)
    return tokenizer, config


def qwen3_tokenizer() -> tuple:
    """Qwen's kind: no BOS."""
    tokenizer = byte_level(GPT4_SPLIT.replace("DIGITS", ""), 304)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    return tokenizer, dict(eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=QWEN3_TEMPLATE)


def llama_rows() -> list[dict]:
    """Conversations, some with a system turn or an earlier question."""
    turn = lambda role, content: {"role": role, "content": content}
    rows = []
    for index, (question, better, worse) in enumerate(ANSWERS):
        prompt = [turn("user", question)]
        if index % 4 == 1:
            prompt = [turn("system", "Answer briefly."), *prompt]
        elif index % 4 == 2:
            prompt = [turn("user", "Hello!"), turn("assistant", "Good day."), *prompt]
        rows.append({"prompt": prompt, "chosen": [turn("assistant", better)], "rejected": [turn("assistant", worse)]})
    return rows


def qwen3_rows() -> list[dict]:
    """Strings. Every fourth prompt ends with a space that becomes part of the answer's first token."""
    rows = []
    for index, (question, better, worse) in enumerate(ANSWERS):
        prompt, space = (f"Q: {question}\nA: ", "") if index % 4 == 3 else (f"Q: {question}\nA:", " ")
        rows.append({"prompt": prompt, "chosen": space + better, "rejected": space + worse})
    return rows


TOKENIZERS = {"llama": (llama_tokenizer, llama_rows), "qwen3": (qwen3_tokenizer, qwen3_rows)}


def make_order() -> list[int]:
    """Rows of all steps one after the other: each epoch of all rows in an order of its own."""
    source = random.Random(11)
    epochs = STEPS * SETTINGS["batch_size"] // len(ANSWERS)
    return [row for _ in range(epochs) for row in source.sample(range(len(ANSWERS)), len(ANSWERS))]


def make_base(name: str, seed: int) -> None:
    folder = VALUES / name
    shutil.rmtree(folder, ignore_errors=True)
    make, _ = TOKENIZERS[name]
    tokenizer, config = make()
    write_tokenizer(folder, tokenizer, config)
    family, settings = MODELS[name]
    ids = {key: tokenizer.token_to_id(config[f"{key}_token"]) for key in ("bos", "eos") if f"{key}_token" in config}
    model = make_model(
        family,
        dict(
            **settings, vocab_size=tokenizer.get_vocab_size(), pad_token_id=None,
            bos_token_id=ids.get("bos"), eos_token_id=ids["eos"],
        ),
        seed,
    )
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    config = LoraConfig(r=LORA["r"], lora_alpha=LORA["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = f"tests/reference/values/trajectory/{name}"
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    # A set in PEFT, in another order each time.
    config_file = folder / "adapter" / "adapter_config.json"
    adapter_config = json.loads(config_file.read_text())
    adapter_config["target_modules"].sort()
    config_file.write_text(json.dumps(adapter_config, indent=2) + "\n")


def load(name: str, kind: str):
    folder = VALUES / name
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if kind == "full":
        return model
    config = LoraConfig.from_pretrained(folder / "adapter")
    config.inference_mode = False
    config.use_rslora = kind == "rslora"
    return PeftModel.from_pretrained(model, folder / "adapter", config=config, is_trainable=True)


def train(name: str, kind: str, rows: list[dict], order: list[int], dtype=torch.float32) -> dict:
    """Runs TRL and returns what it logged, step by step, with the token ids that it made of each row."""
    method = SETTINGS["method"]
    model = load(name, kind).to(dtype)
    with tempfile.TemporaryDirectory() as scratch:
        args = CPOConfig(
            output_dir=scratch, loss_type="simpo", cpo_alpha=0.0, beta=method["beta"], simpo_gamma=method["gamma"],
            label_smoothing=method["label_smoothing"], max_length=SETTINGS["max_length"],
            per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH,
            gradient_accumulation_steps=ACCUMULATION, num_train_epochs=1, learning_rate=LEARNING_RATES[kind],
            lr_scheduler_type=SETTINGS["lr_scheduler_type"], warmup_steps=SETTINGS["warmup_ratio"],
            weight_decay=SETTINGS["weight_decay"], adam_beta1=SETTINGS["adam_beta1"],
            adam_beta2=SETTINGS["adam_beta2"], adam_epsilon=SETTINGS["adam_epsilon"], optim="adamw_torch",
            max_grad_norm=SETTINGS["max_grad_norm"], train_sampling_strategy="sequential", logging_steps=1,
            logging_first_step=True, save_strategy="no", report_to=[], bf16=False, gradient_checkpointing=False,
            use_cpu=True, disable_tqdm=True, seed=1,
        )
        trainer = CPOTrainer(
            model=model, args=args, train_dataset=Dataset.from_list([rows[row] for row in order]),
            eval_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(VALUES / name),
        )
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        undecayed = trained - set(trainer.get_decay_parameter_names(model))
        trainer.train()
        evaluation = trainer.evaluate()
    names = ["loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected", "rewards/accuracies"]
    names += ["rewards/margins", "logps/chosen", "logps/rejected"]
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logged] == list(range(1, STEPS + 1))
    size = SETTINGS["batch_size"]
    tokens = [
        {
            part: {
                "ids": row[f"{part}_input_ids"],
                "scored_from": sum(label == -100 for label in row[f"{part}_labels"]),
            }
            for part in ("chosen", "rejected")
        }
        for row in trainer.eval_dataset
    ]
    return {
        "tokens": tokens,
        "undecayed": sorted(undecayed),
        "steps": [
            {"rows": order[step * size : (step + 1) * size], **{key: entry[key] for key in names}}
            for step, entry in enumerate(logged)
        ],
        "evaluation": {f"eval_{key}": evaluation[f"eval_{key}"] for key in names if f"eval_{key}" in evaluation},
    }


def distance(one: dict, other: dict) -> dict[str, float]:
    """Largest difference of each metric over the steps, relative for the gradient's norm."""
    worst = {}
    for a, b in zip(one["steps"], other["steps"], strict=True):
        for key in a.keys() - {"rows"}:
            scale = b[key] if key == "grad_norm" else 1
            worst[key] = max(worst.get(key, 0), abs(a[key] - b[key]) / scale)
    return worst


def make_run(name: str, kind: str) -> None:
    order = make_order()
    rows = TOKENIZERS[name][1]()
    result = train(name, kind, rows, order)
    replaced = compute_in_float64(MODELS[name][0])
    exact = train(name, kind, rows, order, torch.float64)
    for (owner, attribute), stock in replaced.items():
        setattr(owner, attribute, stock)
    worst = distance(result, exact)
    # The run must not magnify rounding, or nobody could follow it within 1e-4.
    assert max(value for key, value in worst.items() if key != "grad_norm") < 2e-5, worst
    assert worst["grad_norm"] < 2e-4, worst
    lora = {"full": None, "lora": LORA, "rslora": {**LORA, "use_rslora": True}}[kind]
    settings = {**SETTINGS, "lora": lora, "learning_rate": LEARNING_RATES[kind], "max_steps": STEPS}
    undecayed = result.pop("undecayed")
    record = {"settings": settings, "undecayed": undecayed, "rows": rows, **result}
    lines = json.dumps(record, indent=1, ensure_ascii=True)
    (VALUES / f"{name}_{kind}.json").write_text(lines + "\n")
    first, last = result["steps"][0], result["steps"][-1]
    print(f"{name} {kind}: loss {first['loss']:.4f} to {last['loss']:.4f}, float64 differs by {worst}")


def main() -> None:
    torch.set_num_threads(1)
    for seed, name in enumerate(MODELS, start=300):
        make_base(name, seed)
    for name, kind in RUNS:
        make_run(name, kind)


if __name__ == "__main__":
    main()
