import assert from "node:assert/strict";
import { compileAhead } from "../../src/engine/compile_ahead.ts";
import { Gpu, type Kernel, Program } from "../../src/gpu/mod.ts";
import type { BatchLive } from "../../src/model/batch.ts";
import { parseModelConfig } from "../../src/model/config.ts";
import { declareDecoder } from "../../src/model/loading.ts";
import { DecoderPass } from "../../src/model/pass.ts";

/** A device that notes what it is asked to compile. */
async function noting(): Promise<{ gpu: Gpu; compiled: Kernel[] } & Disposable> {
  const gpu = await Gpu.open({ device: "auto" });
  const compiled: Kernel[] = [];
  const { pipeline } = gpu;
  gpu.pipeline = (kernel) => {
    compiled.push(kernel);
    return pipeline.call(gpu, kernel);
  };
  return { gpu, compiled, [Symbol.dispose]: () => gpu.close() };
}

/** What a batch of a Llama with bf16 weights runs. */
function scoringKernels(gpu: Gpu): Kernel[] {
  const config = parseModelConfig({
    model_type: "llama",
    hidden_act: "silu",
    hidden_size: 1024,
    intermediate_size: 1024,
    num_hidden_layers: 1,
    num_attention_heads: 16,
    vocab_size: 96,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    max_position_embeddings: 64,
    tie_word_embeddings: true,
  });
  const { decoder, free } = declareDecoder(gpu, config, () => "BF16", { trainable: false });
  const pass = new DecoderPass(gpu, decoder, { tokens: 256, rows: 256, sequences: 256 }, { mode: "score" });
  const program = new Program<BatchLive>(gpu, "score");
  pass.recordForward(program);
  pass.free();
  free();
  return program.kernels;
}

Deno.test("compileAhead() compiles products that a Llama's scoring runs, and no other kernel", async () => {
  using device = await noting();
  await compileAhead(device.gpu, () => false);
  const used = scoringKernels(device.gpu);
  assert.equal(device.compiled.length, 3);
  assert.deepEqual(device.compiled.filter((kernel) => !used.includes(kernel)).map(({ name }) => name), []);
});

Deno.test("compileAhead() ends where somebody wants the device", async () => {
  using device = await noting();
  await compileAhead(device.gpu, () => device.compiled.length === 1);
  assert.equal(device.compiled.length, 1);
});
