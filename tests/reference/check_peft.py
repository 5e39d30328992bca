"""Scores rows with Hugging Face PEFT, to compare a model or adapter that the worker wrote with what it scores itself.

    python tests/reference/check_peft.py MODEL ROWS [--adapter ADAPTER] [--merge] [--double]

MODEL and ADAPTER are directories in Hugging Face's layout. ROWS is a JSON file: a list of {"prompt": [ids],
"response": [ids]}; every response token is scored. Prints one JSON object: {"average_logprobs": [...]}, in order.
With --expected FILE (the same object, as another program computed it) it also prints the largest relative deviation
and ends with 1 where that is over --tolerance.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def average_logprob(model, prompt: list[int], response: list[int]) -> float:
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    logprobs = logits.double().log_softmax(-1).gather(-1, torch.tensor(response)[:, None])
    return logprobs.mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--adapter")
    parser.add_argument("--merge", action="store_true", help="merge the adapter into the weights before scoring")
    parser.add_argument("--double", action="store_true", help="compute in float64 where transformers does")
    parser.add_argument("--expected")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, local_files_only=True)
    if arguments.adapter:
        model = PeftModel.from_pretrained(model, arguments.adapter)
        # PEFT only warns of adapter tensors it cannot place, or lacks; here either is an error.
        from peft.utils.save_and_load import get_peft_model_state_dict
        from safetensors.torch import load_file

        stored = load_file(Path(arguments.adapter) / "adapter_model.safetensors")
        used = get_peft_model_state_dict(model)
        if stored.keys() != used.keys():
            sys.exit(f"adapter tensors not shared with PEFT: {sorted(stored.keys() ^ used.keys())}")
        if arguments.merge:
            model = model.merge_and_unload()
    model = (model.double() if arguments.double else model).eval()

    rows = json.loads(Path(arguments.rows).read_text())
    with torch.no_grad():
        averages = [average_logprob(model, row["prompt"], row["response"]) for row in rows]
    print(json.dumps({"average_logprobs": averages}))

    if arguments.expected:
        expected = json.loads(Path(arguments.expected).read_text())["average_logprobs"]
        if len(expected) != len(averages):
            sys.exit(f"{len(expected)} expected values for {len(averages)} rows")
        worst = max(abs(a - e) / abs(e) for a, e in zip(averages, expected))
        print(f"largest relative deviation {worst:.2e}", file=sys.stderr)
        sys.exit(0 if worst <= arguments.tolerance else 1)


if __name__ == "__main__":
    main()
