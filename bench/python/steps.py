"""Products and steps by PyTorch, transformers, peft and TRL on the CPU: python steps.py SIZES ROUNDS, a JSON line each."""

import json
import sys
import tempfile
import time
from statistics import median

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models
from trl.experimental.cpo import CPOConfig, CPOTrainer

sizes = json.loads(sys.argv[1])
rounds = int(sys.argv[2])
PROMPT, RESPONSE, PAIRS, CANDIDATES = 512, 128, 2, 16


def timed(work) -> float:
    """Median milliseconds, after one run that warms up."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    return median(times[1:])


def report(name: str, milliseconds: float, **more: float) -> None:
    print(json.dumps({"name": name, "milliseconds": milliseconds, **more}), flush=True)


a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
report("matmul", timed(lambda: a @ b))

torch.manual_seed(1)
model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True, max_position_embeddings=4096))
ids = torch.randint(sizes["vocab_size"], (CANDIDATES, PROMPT + 64))


@torch.no_grad()
def score() -> None:
    logits = model(ids).logits[:, PROMPT - 1 : -1]
    logits.log_softmax(-1).gather(2, ids[:, PROMPT:, None])


report("scoring", timed(score))

peft_model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
words = {str(i): i for i in range(sizes["vocab_size"])}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="0")), pad_token="0", eos_token="1", bos_token="2"
)
with tempfile.TemporaryDirectory() as folder:
    trainer = CPOTrainer(
        model=peft_model,
        args=CPOConfig(
            output_dir=folder, loss_type="simpo", cpo_alpha=0.0, report_to=[], use_cpu=True, bf16=False,
            max_length=4096, remove_unused_columns=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": "3", "chosen": "4", "rejected": "5"}]),
        processing_class=tokenizer,
    )


def side() -> dict[str, torch.Tensor]:
    tokens = torch.randint(sizes["vocab_size"], (PAIRS, PROMPT + RESPONSE))
    labels = tokens.clone()
    labels[:, :PROMPT] = -100
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


batch = {f"{name}_{key}": value for name in ("chosen", "rejected") for key, value in side().items()}
batch["prompt_input_ids"] = batch["chosen_input_ids"][:, :PROMPT]
batch["prompt_attention_mask"] = torch.ones_like(batch["prompt_input_ids"])
optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=0.0)


def step() -> None:
    optimizer.zero_grad()
    loss, _ = trainer.get_batch_loss_metrics(peft_model, batch, train_eval="train")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(peft_model.parameters(), 1.0)
    optimizer.step()


report("training", timed(step))
