"""Scores rows with Hugging Face PEFT, to compare a model or adapter that the worker wrote with what it scores itself.

    python tests/reference/check_peft.py MODEL ROWS [--adapter ADAPTER] [--merge] [--double]
    python tests/reference/check_peft.py --cases FOLDER

MODEL and ADAPTER are directories in Hugging Face's layout. ROWS is a JSON file: a list of {"prompt": [ids],
"response": [ids]}; every response token is scored. Prints one JSON object: {"average_logprobs": [...]}, in order.
With --expected FILE (the same object, as another program computed it) it also prints the largest relative deviation
and ends with 1 where that is over --tolerance. With --cases it makes all comparisons of PEFT.md for each case that
peft_case.ts left under FOLDER, and prints a line each; then it loads the folders of jobs as their users do, by their own
names of the base, types, shards, tokenizers and cards.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from huggingface_hub import ModelCard
from peft import AutoPeftModelForCausalLM, PeftModel
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def average_logprob(model, prompt: list[int], response: list[int]) -> float:
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    logprobs = logits.double().log_softmax(-1).gather(-1, torch.tensor(response)[:, None])
    return logprobs.mean().item()


def load(folder: str | Path, adapter: str | Path | None = None, merge: bool = False, double: bool = False):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
        # PEFT only warns of adapter tensors it cannot place, or lacks; here either is an error.
        stored = load_file(Path(adapter) / "adapter_model.safetensors")
        used = get_peft_model_state_dict(model)
        if stored.keys() != used.keys():
            sys.exit(f"adapter tensors not shared with PEFT: {sorted(stored.keys() ^ used.keys())}")
        if merge:
            model = model.merge_and_unload()
    return (model.double() if double else model).eval()


def average_logprobs(model, rows_file: str | Path) -> list[float]:
    with torch.no_grad():
        return [average_logprob(model, **row) for row in json.loads(Path(rows_file).read_text())]


def deviation(averages: list[float], expected_file: str | Path) -> float:
    expected = json.loads(Path(expected_file).read_text())["average_logprobs"]
    if len(expected) != len(averages):
        sys.exit(f"{len(expected)} expected values for {len(averages)} rows")
    return max(abs(a - e) / abs(e) for a, e in zip(averages, expected))


def check_cases(folder: Path) -> None:
    print("| case | adapter | merged by PEFT | merged export | export, adapter | without adapter |")
    for case in sorted(path.parent for path in folder.glob("*/rows.json")):
        base, adapter, rows = case / "model", case / "adapter", case / "rows.json"
        merged = average_logprobs(load(case / "merged"), rows)
        found = [
            deviation(average_logprobs(load(base, adapter), rows), case / "adapter.json"),
            deviation(average_logprobs(load(base, adapter, merge=True), rows), case / "adapter.json"),
            deviation(merged, case / "merged.json"),
            deviation(merged, case / "adapter.json"),
            deviation(average_logprobs(load(base), rows), case / "adapter.json"),
        ]
        print(f"| {case.name} | " + " | ".join(f"{value:.1e}" for value in found) + " |", flush=True)


def check_files(case: Path) -> None:
    chat = [{"role": "user", "content": "the hand"}, {"role": "assistant", "content": "in"}]
    base = AutoTokenizer.from_pretrained(case / "model").apply_chat_template(chat, tokenize=False)
    for form in ["adapter", "merged", "sharded", "full"]:
        text = AutoTokenizer.from_pretrained(case / form).apply_chat_template(chat, tokenize=False)
        assert text == base, f"{form}: the chat is {text!r}, by the base {base!r}"
    for form, library in [("adapter", "peft"), ("full", "transformers")]:
        data = ModelCard.load(case / form / "README.md").data
        assert (data.base_model, data.library_name, data.pipeline_tag) == ("org/base", library, "text-generation"), data

    found = AutoPeftModelForCausalLM.from_pretrained(case / "adapter", dtype=torch.float32).eval()
    by_name = deviation(average_logprobs(found, case / "rows.json"), case / "adapter.json")
    full = deviation(average_logprobs(load(case / "full"), case / "rows.json"), case / "full.json")

    index = json.loads((case / "sharded" / "model.safetensors.index.json").read_text())
    tensors = {}
    for file in set(index["weight_map"].values()):
        shard = load_file(case / "sharded" / file)
        assert {index["weight_map"][name] for name in shard} == {file}
        tensors |= shard
    assert tensors.keys() == index["weight_map"].keys()
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    whole, sharded = (
        AutoModelForCausalLM.from_pretrained(case / form, dtype="auto").state_dict() for form in ("merged", "sharded")
    )
    assert whole.keys() == sharded.keys() and all(torch.equal(whole[name], sharded[name]) for name in whole)
    types = {
        form: str(AutoModelForCausalLM.from_pretrained(case / form, dtype="auto").dtype)
        for form in ("model", "merged", "full")
    }
    assert types["merged"] == types["model"] and types["full"] == "torch.float16", types
    print(f"{case.name}: AutoPeftModel {by_name:.1e}, full weights in f16 {full:.1e}, {len(set(index['weight_map'].values()))} shards, {types}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("rows", nargs="?")
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--adapter")
    parser.add_argument("--merge", action="store_true", help="merge the adapter into the weights before scoring")
    parser.add_argument("--double", action="store_true", help="compute in float64 where transformers does")
    parser.add_argument("--expected")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    if arguments.cases:
        check_cases(arguments.cases)
        for case in ["f32", "bf16"]:
            check_files(arguments.cases / case)
        return
    if not arguments.rows:
        parser.error("MODEL and ROWS, or --cases")
    model = load(arguments.model, arguments.adapter, arguments.merge, arguments.double)
    averages = average_logprobs(model, arguments.rows)
    print(json.dumps({"average_logprobs": averages}))
    if arguments.expected:
        worst = deviation(averages, arguments.expected)
        print(f"largest relative deviation {worst:.2e}", file=sys.stderr)
        sys.exit(0 if worst <= arguments.tolerance else 1)


if __name__ == "__main__":
    main()
