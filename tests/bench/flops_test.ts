import assert from "node:assert/strict";
import { matmulFlops, modelFlops } from "../../bench/_flops.ts";
import { configOf, randomGroups, randomModel } from "../../bench/_model.ts";
import { prepareStep } from "../../bench/_step.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import { packGroups } from "../../src/preference/pack.ts";

const SIZES = {
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 32,
};
/** Weights of a block: q, k, v, o, gate, up, down. */
const BLOCK = 64 + 32 + 32 + 64 + 3 * 128;

Deno.test("modelFlops() of a forward counts weights, head and the pairs that see each other", () => {
  const batch = packGroups(randomGroups(1, 2, [3, 1], 32));
  assert.equal(batch.tokens, 4); // of a response all but the last
  const pairs = (1 + 2) + (3 + 4);
  assert.equal(
    modelFlops(configOf(SIZES), batch, "forward", "nothing"),
    2 * batch.tokens * 2 * BLOCK + 2 * batch.rows * 8 * 32 + 4 * 8 * 2 * pairs,
  );
});

Deno.test("modelFlops() of an adapter's step counts its factors, and of the first block no gradient of its input", () => {
  const batch = packGroups(randomGroups(1, 2, [3, 1], 32));
  const [rank, pairs] = [3, (1 + 2) + (3 + 4)];
  // inputs and outputs of a block's layers are 64 each; q, k and v of the first take 3 times 8
  const forward = 2 * BLOCK + rank * 2 * (64 + 64);
  const backward = 2 * BLOCK - (64 + 32 + 32) + rank * (2 * 2 * (64 + 64) - 24);
  assert.equal(
    modelFlops(configOf(SIZES), batch, "forward and backward", { lora: rank }),
    2 * batch.tokens * (forward + backward) + 2 * (2 * batch.rows * 8 * 32) + 3 * (4 * 8 * 2 * pairs),
  );
});

Deno.test("modelFlops() and the dispatched matrix products agree where all weights are trained", async () => {
  const gpu = await Gpu.open({ device: "auto" });
  const model = await randomModel(gpu, SIZES, "weights");
  const groups = randomGroups(2, 3, [2, 4], 32);
  const step = prepareStep(gpu, model, groups, { mode: "train" });
  const batch = packGroups(groups);
  const attention = 3 * 4 * 8 * 2 * pairsOf(batch);
  assert.equal(step.matmul_flops, step.model_flops - attention);
  assert.ok(await step.host() > 0);
  const kernels = (await step.profile()).map(({ kernel }) => kernel);
  for (const name of ["attention", "adamw"]) {
    assert.ok(kernels.some((kernel) => kernel.startsWith(name)), name);
  }
  step.free();
  model.free();
  gpu.close();
});

Deno.test("matmulFlops() is 0 for what is no matrix product", () => {
  const params = { m: 2, n_begin: 64, n: 67, k_begin: 1, k_end: 5 };
  assert.equal(matmulFlops({ kernel: "matmul_tiled_NT_f32_64x64", params }), 48);
  assert.equal(matmulFlops({ kernel: "rope", params }), 0);
  assert.equal(matmulFlops({ kernel: "pack_panels_64", params: { k: 4, first: 64, last: 67 } }), 0);
});

/** Counted one by one. */
function pairsOf({ tokens, spans }: ReturnType<typeof packGroups>): number {
  let pairs = 0;
  for (let i = 0; i < tokens; i++) {
    const [start, end, segment] = spans.subarray(4 * i, 4 * i + 3) as unknown as [number, number, number];
    for (let j = 0; j <= i; j++) if ((j >= start && j < end) || j >= segment) pairs++;
  }
  return pairs;
}
