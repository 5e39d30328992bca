import assert from "node:assert/strict";
import { InputError } from "../src/errors.ts";
import { parseModelConfig } from "../src/model/config.ts";
import { fromPlainError, toPlainError } from "../src/plain_error.ts";

Deno.test("toPlainError() can be posted whatever was refused, an object of a configuration among it", () => {
  const config = {
    model_type: "llama",
    vocab_size: 512,
    hidden_size: 64,
    intermediate_size: 160,
    num_hidden_layers: 2,
    num_attention_heads: 4,
  };
  for (const change of [{ eos_token_id: { a: [1] } }, { eos_token_id: [{}] }, { rope_theta: { b: null } }]) {
    assert.throws(() => parseModelConfig({ ...config, ...change }), (error) => {
      const there = fromPlainError(structuredClone(toPlainError(error)));
      assert.ok(there instanceof InputError && error instanceof InputError);
      assert.deepEqual([there.message, there.field], [error.message, error.field]);
      assert.deepEqual(there.problem.value, Object.values(change)[0]);
      return true;
    });
  }
});
