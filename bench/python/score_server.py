"""The least of a scoring server with transformers, to compare a cold start with: python score_server.py MODEL PORT."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()


@torch.no_grad()
def average_logprob(prompt: str, candidate: str) -> float:
    prompt_length = len(tokenizer(prompt).input_ids)
    ids = tokenizer(prompt + candidate, return_tensors="pt").input_ids
    logprobs = model(ids).logits[0, :-1].log_softmax(-1)
    tokens = logprobs.gather(1, ids[0, 1:, None])[prompt_length - 1 :]
    return tokens.mean().item()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        scores = [average_logprob(request["prompt"], text) for text in request["candidates"]]
        body = json.dumps({"average_logprobs": scores}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
