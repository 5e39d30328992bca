"""What generated requests need to get past the first refusal: names that are there. Loaded by schemathesis."""

import json
import random

import schemathesis

BODIES = {
    "/score": [{"model": "models/tiny", "prompt": "the", "candidates": [" sand", " sea"]}],
    "/v1/completions": [{"model": "models/tiny", "prompt": "the", "max_tokens": 1}],
    "/train": [
        {"model": "models/tiny", "dataset": {"path": "rows.jsonl"}, "max_steps": 1},
        {"model": "models/tiny", "dataset": {"rows": [{"prompt": "a", "chosen": "b", "rejected": "c"}]}, "max_steps": 1},
    ],
}


@schemathesis.hook
def map_body(context, body):
    """Three in four bodies are right but for what was generated for some of their optional fields."""
    right = BODIES.get(context.operation.path)
    if right is None or not isinstance(body, dict) or random.random() < 0.25:
        return body
    kept = {name: value for name, value in body.items() if random.random() < 0.2}
    return {**kept, **random.choice(right)}


@schemathesis.deserializer("application/x-ndjson")
def lines(context, response):
    """Each line is checked by the schema of a line: the first stands for all, as lines are of one type."""
    every = [json.loads(line) for line in response.text.splitlines()]
    return every[0] if every else None
