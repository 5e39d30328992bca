import assert from "node:assert/strict";
import { parseHubName } from "../../src/hub/name.ts";
import { chooseAdapterFiles, chooseModelFiles } from "../../src/hub/model_files.ts";

Deno.test("parseHubName() reads repository, revision and path", () => {
  assert.deepEqual(parseHubName("hf://meta-llama/Llama-3.2-1B", "model"), {
    type: "model",
    repository: "meta-llama/Llama-3.2-1B",
    revision: "main",
    path: "",
  });
  assert.deepEqual(parseHubName("hf://datasets/org/set@refs%2Fpr%2F1/en/train", "dataset"), {
    type: "dataset",
    repository: "org/set",
    revision: "refs/pr/1",
    path: "en/train",
  });
});

for (
  const name of [
    "hf://gpt2",
    "hf://org/name/more",
    "hf://org/..",
    "hf://../name",
    "hf://org/name@",
    "hf://org/name@..%2F..",
    "hf://org/name@%2Fetc",
    "hf://org/name@a b",
    "hf://org/name?x=1",
    "hf://org/name@a%2F..%2Fb",
    "hf://org/name@a%00b",
  ]
) {
  Deno.test(`parseHubName() refuses ${name}`, () => {
    assert.throws(() => parseHubName(name, "model"), {
      name: "InputError",
      message: /hf:\/\/org\/name@rev/,
    });
  });
}

Deno.test("parseHubName() refuses a data set's path that climbs, and a model for a data set", () => {
  for (const name of ["hf://datasets/org/set/../x", "hf://datasets/org/set//etc", "hf://org/set"]) {
    assert.throws(() => parseHubName(name, "dataset"), { name: "InputError" });
  }
});

const others = [
  "README.md",
  "pytorch_model.bin",
  "consolidated.safetensors",
  "onnx/model.onnx",
  "config.json",
];
const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const index = "model.safetensors.index.json";

Deno.test("chooseModelFiles() takes configuration and weights, whole or in shards, and nothing else", () => {
  const choose = (paths: string[]) => chooseModelFiles(paths, "org/name");
  assert.deepEqual(choose([...others, "model.safetensors", "tokenizer.json"]), [
    "config.json",
    "tokenizer.json",
    "model.safetensors",
  ]);
  assert.deepEqual(choose([...others, ...shards, index]), ["config.json", ...shards, index]);
  assert.throws(() => choose(others), { name: "InputError", message: /no weights as safetensors/ });
});

Deno.test("chooseAdapterFiles() takes PEFT's files, or whole weights", () => {
  const choose = (paths: string[]) => chooseAdapterFiles(paths, "org/name");
  const peft = ["adapter_config.json", "adapter_model.safetensors"];
  assert.deepEqual(choose([...others, ...peft, "tokenizer.json"]), [...peft, "tokenizer.json"]);
  const template = "chat_template.jinja";
  assert.deepEqual(choose([template, ...others, ...peft]), [...peft, template]);
  assert.deepEqual(choose([...others, "model.safetensors"]), ["config.json", "model.safetensors"]);
  assert.throws(() => choose(["adapter_config.json", "adapter_model.bin"]), { name: "InputError" });
});
