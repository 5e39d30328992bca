import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { readAdapter } from "../../src/model/adapter.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { finiteDifference } from "../helpers/finite_difference.ts";
import { packedExample } from "../helpers/packed_example.ts";
import { random } from "../helpers/random.ts";
import {
  ACTIVATIONS,
  adamw,
  addBias,
  addBiasGrad,
  attention,
  attentionGrad,
  type AttentionShape,
  averageLogprobs,
  averageLogprobsGrad,
  clipGradients,
  type Decoder,
  decoderBackward,
  type DecoderBatch,
  type DecoderConfig,
  decoderForward,
  embedding,
  embeddingGrad,
  gatedActivation,
  gatedActivationGrad,
  globalNorm,
  head,
  headGrad,
  layerNorm,
  layerNormGrad,
  loraLinear,
  loraLinearGrad,
  matmul,
  type Numbers,
  rmsNorm,
  rmsNormGrad,
  rope,
  ropeInverse,
  ropeTables,
  sftLoss,
  simpoLoss,
  type SimpoSettings,
  softCap,
  softCapGrad,
} from "./cpu.ts";
import {
  readGradients,
  readReference,
  readWeights,
  REFERENCE_MODELS,
  type ReferenceModel,
  VALUES,
} from "./values.ts";

/** Sum of x · weights: turns a tensor into a scalar whose gradient by the tensor is `weights`. */
function project(x: Numbers, weights: Numbers): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += x[i]! * weights[i]!;
  return sum;
}

const GRADIENT = { rtol: 1e-8 };

Deno.test("matmul() computes NN, NT and TN from the layouts it names", () => {
  // [[1, 2, 3], [4, 5, 6]] · [[7, 8], [9, 10], [11, 12]]
  const expected = [58, 64, 139, 154];
  const shape = { m: 2, n: 2, k: 3 };
  assert.deepEqual([...matmul("nn", [1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12], shape)], expected);
  assert.deepEqual([...matmul("nt", [1, 2, 3, 4, 5, 6], [7, 9, 11, 8, 10, 12], shape)], expected);
  assert.deepEqual([...matmul("tn", [1, 4, 2, 5, 3, 6], [7, 8, 9, 10, 11, 12], shape)], expected);
});

Deno.test("loraLinearGrad() agrees with finite differences, with dropout too", () => {
  const source = random(1);
  const shape = { rows: 3, inputs: 5, outputs: 4, rank: 2 };
  const x = source.normals(15);
  const weight = source.normals(20);
  const a = source.normals(10);
  const b = source.normals(8);
  const dy = source.normals(12);
  const dropped = Float64Array.from({ length: 15 }, () => source.uniform() < 0.4 ? 0 : 1 / 0.6);
  for (const dropout of [{}, { mask: dropped }]) {
    const operands = { x, weight, a, b, scale: 1.7, ...dropout };
    const { dx, da, db } = loraLinearGrad(operands, dy, shape);
    const loss = (changed: object) => project(loraLinear({ ...operands, ...changed }, shape).y, dy);
    assertClose(dx, finiteDifference((x) => loss({ x }), x), GRADIENT);
    assertClose(da, finiteDifference((a) => loss({ a }), a), GRADIENT);
    assertClose(db, finiteDifference((b) => loss({ b }), b), GRADIENT);
  }
});

Deno.test("loraLinear() equals a linear layer with the merged weight", () => {
  const source = random(2);
  const shape = { rows: 3, inputs: 5, outputs: 4, rank: 2 };
  const [x, weight] = [source.normals(15), source.normals(20)];
  const [a, b] = [source.normals(10), source.normals(8)];
  const update = matmul("nn", b, a, { m: 4, n: 5, k: 2 });
  const merged = update.map((value, i) => weight[i]! + 1.7 * value);
  const expected = matmul("nt", x, merged, { m: 3, n: 4, k: 5 });
  assertClose(loraLinear({ x, weight, a, b, scale: 1.7 }, shape).y, expected, { rtol: 1e-14 });
});

Deno.test("embeddingGrad() adds up the tokens of one id", () => {
  const source = random(3);
  const table = source.normals(7 * 3);
  const ids = [5, 0, 5, 6];
  const dy = source.normals(4 * 3);
  const expected = finiteDifference((table) => project(embedding(table, ids, 3), dy), table);
  assertClose(embeddingGrad(dy, ids, 7, 3), expected, GRADIENT);
});

Deno.test("addBiasGrad() agrees with finite differences", () => {
  const source = random(3);
  const [x, bias, dy] = [source.normals(4 * 3), source.normals(3), source.normals(4 * 3)];
  const expected = finiteDifference((bias) => project(addBias(x, bias), dy), bias);
  assertClose(addBiasGrad(dy, 3), expected, GRADIENT);
});

Deno.test("rmsNormGrad() agrees with finite differences", () => {
  const source = random(4);
  const [x, weight, dy] = [source.normals(3 * 7), source.normals(7), source.normals(3 * 7)];
  const { dx, dw } = rmsNormGrad(x, weight, dy, 7, 0.1);
  assertClose(dx, finiteDifference((x) => project(rmsNorm(x, weight, 7, 0.1).y, dy), x), GRADIENT);
  assertClose(dw, finiteDifference((weight) => project(rmsNorm(x, weight, 7, 0.1).y, dy), weight), GRADIENT);
});

Deno.test("layerNormGrad() agrees with finite differences", () => {
  const source = random(4);
  const [x, weight, bias] = [source.normals(3 * 7), source.normals(7), source.normals(7)];
  const dy = source.normals(3 * 7);
  const { dx, dw, db } = layerNormGrad(x, weight, dy, 7, 0.1);
  const loss = (x: Numbers, weight: Numbers, bias: Numbers) =>
    project(layerNorm(x, weight, bias, 7, 0.1).y, dy);
  assertClose(dx, finiteDifference((x) => loss(x, weight, bias), x), GRADIENT);
  assertClose(dw, finiteDifference((weight) => loss(x, weight, bias), weight), GRADIENT);
  assertClose(db, finiteDifference((bias) => loss(x, weight, bias), bias), GRADIENT);
});

Deno.test("rope() turns pairs half a head apart, and ropeInverse() is its inverse and its gradient", () => {
  const source = random(5);
  const shape = { tokens: 3, heads: 2, headDim: 6 };
  const { cos, sin } = ropeTables([0, 4, 9], [1, 0.3, 0.01]);
  const x = source.normals(36);
  const y = rope(x, cos, sin, shape);
  assertClose(y.subarray(0, 12), x.subarray(0, 12), { rtol: 0 });
  // Token 1, head 0, component 0 with component 3, by the angle 4.
  const expected = x[12]! * Math.cos(4) - x[15]! * Math.sin(4);
  assert.ok(Math.abs(y[12]! - expected) < 1e-15);
  assertClose(ropeInverse(y, cos, sin, shape), x, { rtol: 1e-15 });
  const dy = source.normals(36);
  const gradient = finiteDifference((x) => project(rope(x, cos, sin, shape), dy), x);
  assertClose(ropeInverse(dy, cos, sin, shape), gradient, GRADIENT);
});

Deno.test("gatedActivationGrad() agrees with finite differences, far from zero too", () => {
  const gate = [-800, -30, -2, -0.5, 0, 0.5, 2, 30, 800];
  const up = random(6).normals(9);
  const dy = random(7).normals(9);
  for (const activation of Object.values(ACTIVATIONS)) {
    const { dGate, dUp } = gatedActivationGrad(activation, gate, up, dy);
    const loss = (gate: Numbers, up: Numbers) => project(gatedActivation(activation, gate, up), dy);
    assertClose(dGate, finiteDifference((gate) => loss(gate, up), gate), { rtol: 1e-6 });
    assertClose(dUp, finiteDifference((up) => loss(gate, up), up), GRADIENT);
  }
});

Deno.test("softCapGrad() agrees with finite differences", () => {
  const x = [-40, -3, -0.1, 0, 0.2, 5];
  const dy = random(8).normals(6);
  const expected = finiteDifference((x) => project(softCap(x, 2.5), dy), x);
  assertClose(softCapGrad(x, 2.5).map((slope, i) => slope * dy[i]!), expected, GRADIENT);
});

Deno.test("ACTIVATIONS.gelu_tanh gives what Python's math module makes of its formula", () => {
  assertClose([-1, 0.5, 3].map(ACTIVATIONS.gelu_tanh.value), [-0.1588080, 0.3457140, 2.9963627], {
    rtol: 1e-7,
  });
});

interface AttentionCase {
  readonly groups: Parameters<typeof packedExample>[0];
  readonly rules?: { readonly window?: number; readonly softcap?: number };
}

const ATTENTION_CASES: Record<string, AttentionCase> = {
  "one sequence": { groups: [{ prompt: 6, responses: [] }] },
  "groups with responses": { groups: [{ prompt: 3, responses: [2, 4] }, { prompt: 0, responses: [3] }] },
  "a window over positions": { groups: [{ prompt: 4, responses: [3, 5] }], rules: { window: 3 } },
  "capped scores": { groups: [{ prompt: 3, responses: [2, 4] }], rules: { softcap: 0.8 } },
};
for (const [name, { groups, rules }] of Object.entries(ATTENTION_CASES)) {
  Deno.test(`attentionGrad() agrees with finite differences: ${name}`, () => {
    const source = random(8);
    const { tokens, spans, positions } = packedExample(groups);
    const sizes = { tokens, heads: 4, kvHeads: 2, headDim: 3, spans, positions };
    const shape: AttentionShape = { ...sizes, ...rules };
    const [q, k, v] = [source.normals(tokens * 12), source.normals(tokens * 6), source.normals(tokens * 6)];
    const dOut = source.normals(tokens * 12);
    const { dq, dk, dv } = attentionGrad(q, k, v, dOut, shape);
    const loss = (q: Numbers, k: Numbers, v: Numbers) => project(attention(q, k, v, shape).out, dOut);
    assertClose(dq, finiteDifference((q) => loss(q, k, v), q), GRADIENT);
    assertClose(dk, finiteDifference((k) => loss(q, k, v), k), GRADIENT);
    assertClose(dv, finiteDifference((v) => loss(q, k, v), v), GRADIENT);
  });
}

Deno.test("attention() over a packed group equals each response alone behind its prompt", () => {
  const source = random(9);
  const sizes = { heads: 2, kvHeads: 1, headDim: 4 };
  const packed = packedExample([{ prompt: 3, responses: [2, 4] }]);
  const [q, k, v] = [source.normals(9 * 8), source.normals(9 * 4), source.normals(9 * 4)];
  for (const window of [{}, { window: 3 }]) {
    const together = attention(q, k, v, { ...packed, ...sizes, ...window });
    for (const [first, length] of [[3, 2], [5, 4]] as const) {
      const alone = packedExample([{ prompt: 3 + length, responses: [] }]);
      const stream = [0, 1, 2, ...Array.from({ length }, (_, i) => first + i)];
      const take = (x: Numbers, width: number) => embedding(x, stream, width);
      const single = attention(take(q, 8), take(k, 4), take(v, 4), { ...alone, ...sizes, ...window });
      assertClose(single.out, take(together.out, 8), { rtol: 1e-15 });
      assertClose(single.lse, take(together.lse, 2), { rtol: 1e-15 });
    }
  }
});

Deno.test("attention() gives the log-sum-exp of the scaled scores", () => {
  const { spans } = packedExample([{ prompt: 2, responses: [] }]);
  const shape = { tokens: 2, heads: 1, kvHeads: 1, headDim: 1, spans, scale: 0.5 };
  const { out, lse } = attention([3, 2], [1, -1], [10, 20], shape);
  assertClose(lse, [1.5, Math.log(Math.exp(1) + Math.exp(-1))], { rtol: 1e-15 });
  const weight = Math.exp(1) / (Math.exp(1) + Math.exp(-1));
  assertClose(out, [10, weight * 10 + (1 - weight) * 20], { rtol: 1e-15 });
});

Deno.test("headGrad() agrees with finite differences where one hidden state predicts several rows", () => {
  const source = random(10);
  const [hidden, weight] = [source.normals(4 * 3), source.normals(5 * 3)];
  const operands = { hidden, weight, headTokens: [1, 2, 1, 3], targets: [4, 0, 2, 2], width: 3 };
  const coefficients = [0.5, -1, 0.25, 2];
  const { dHidden, dWeight } = headGrad(operands, coefficients);
  const loss = (changed: object) => project(head({ ...operands, ...changed }).logprobs, coefficients);
  assertClose(dHidden, finiteDifference((hidden) => loss({ hidden }), hidden), GRADIENT);
  assertClose(dWeight, finiteDifference((weight) => loss({ weight }), weight), GRADIENT);
});

Deno.test("head() gives log-probs, log-sum-exp and the sum of logits of each row", () => {
  const { logprobs, lse, logitSums } = head({
    hidden: [1, 2],
    weight: [1, 0, 0, 1, 1, 1],
    headTokens: [0],
    targets: [1],
    width: 2,
  });
  const expected = Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3));
  assertClose(lse, [expected], { rtol: 1e-15 });
  assertClose(logprobs, [2 - expected], { rtol: 1e-14 });
  assert.deepEqual([...logitSums], [6]);
});

Deno.test("averageLogprobsGrad() is the gradient of averageLogprobs()", () => {
  const logprobs = random(11).normals(6);
  const weights = [0.3, -2, 1];
  const loss = (x: Numbers) => project(averageLogprobs(x, [0, 1, 4, 6]), weights);
  assertClose(averageLogprobsGrad(weights, [0, 1, 4, 6]), finiteDifference(loss, logprobs), GRADIENT);
});

const LOSS_CASES: Record<string, SimpoSettings> = {
  sigmoid: { beta: 2, gamma: 1, lossType: "sigmoid" },
  "sigmoid with label smoothing": { beta: 2.5, gamma: 0, lossType: "sigmoid", labelSmoothing: 0.1 },
  hinge: { beta: 2, gamma: 1, lossType: "hinge", labelSmoothing: 0.1 },
  "sigmoid with a likelihood term": { beta: 10, gamma: 3, lossType: "sigmoid", sftWeight: 0.3 },
};
for (const [name, settings] of Object.entries(LOSS_CASES)) {
  Deno.test(`simpoLoss() has the gradient of finite differences: ${name}`, () => {
    const averages = [-1.2, -1.9, -3, -0.5, -0.7, -0.71];
    const numTokens = [3, 9, 1, 4, 7, 2];
    const { dAverages } = simpoLoss(averages, numTokens, settings);
    const loss = (x: Numbers) => simpoLoss(x, numTokens, settings).loss;
    assertClose(dAverages, finiteDifference(loss, averages), GRADIENT);
  });
}

Deno.test("sftLoss() has the gradient of finite differences", () => {
  const averages = [-1.2, -1.9, -3];
  const { loss, dAverages } = sftLoss(averages, [3, 9, 1]);
  assert.ok(Math.abs(loss - (1.2 * 3 + 1.9 * 9 + 3) / 13) < 1e-15);
  const gradient = finiteDifference((x) => sftLoss(x, [3, 9, 1]).loss, averages);
  assertClose(dAverages, gradient, GRADIENT);
});

Deno.test("adamw() and clipGradients() follow torch.optim.AdamW behind clip_grad_norm_", async () => {
  const reference = JSON.parse(await readFile(`${VALUES}/optimizer.json`, "utf8"));
  const { lr, betas: [beta1, beta2], eps, weight_decay } = reference.settings;
  const zeros = (values: number[]) => new Float64Array(values.length);
  let states = reference.initial.map((parameter: number[]) => ({
    parameter,
    first: zeros(parameter),
    second: zeros(parameter),
  }));
  const clips: boolean[] = [];
  for (const [index, { gradients, norm, clipped, parameters }] of reference.steps.entries()) {
    const result = clipGradients(gradients, reference.max_grad_norm);
    clips.push(result.factor < 1);
    assertClose([result.norm, globalNorm(result.clipped)], [norm, globalNorm(clipped)], { rtol: 1e-14 });
    const settings = { learningRate: lr, beta1, beta2, epsilon: eps, weightDecay: weight_decay };
    states = states.map((state: Parameters<typeof adamw>[0], i: number) =>
      adamw(state, result.clipped[i]!, { ...settings, step: index + 1 })
    );
    for (const i of [0, 1]) assertClose(states[i].parameter, parameters[i], { rtol: 1e-13 });
  }
  assert.deepEqual(clips, [false, true, true]);
});

/** A random decoder of awkward sizes and a batch of two groups. */
function randomDecoder(tied: boolean): { decoder: Decoder; batch: DecoderBatch } {
  const source = random(12);
  const config: DecoderConfig = {
    vocab_size: 7,
    hidden_size: 6,
    intermediate_size: 5,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 4,
    rms_norm_eps: 1e-3,
    tie_word_embeddings: tied,
  };
  const sizes: Record<string, number> = { "model.embed_tokens": 7 * 6, "model.norm": 6 };
  if (!tied) sizes["lm_head"] = 7 * 6;
  for (const layer of ["model.layers.0", "model.layers.1"]) {
    sizes[`${layer}.input_layernorm`] = sizes[`${layer}.post_attention_layernorm`] = 6;
    sizes[`${layer}.self_attn.q_proj`] = sizes[`${layer}.self_attn.o_proj`] = 6 * 8;
    sizes[`${layer}.self_attn.k_proj`] = sizes[`${layer}.self_attn.v_proj`] = 6 * 4;
    sizes[`${layer}.mlp.gate_proj`] = sizes[`${layer}.mlp.up_proj`] = 6 * 5;
    sizes[`${layer}.mlp.down_proj`] = 5 * 6;
  }
  const weights = new Map(
    Object.entries(sizes).map(([name, size]) => [`${name}.weight`, source.normals(size, 0.6)]),
  );
  const packed = packedExample([{ prompt: 2, responses: [2, 3] }, { prompt: 1, responses: [1, 2] }]);
  const ids = source.integers(packed.tokens, 7);
  const batch = {
    token_ids: ids,
    positions: packed.positions,
    spans: packed.spans,
    head_tokens: packed.headTokens,
    targets: packed.targetTokens.map((token) => ids[token]!),
    sequence_rows: packed.sequenceRows,
  };
  return { decoder: { config, weights, frequencies: [1, 0.2] }, batch };
}

for (const tied of [true, false]) {
  Deno.test(`decoderBackward() agrees with finite differences: ${tied ? "tied" : "untied"}`, () => {
    const { decoder, batch } = randomDecoder(tied);
    const dAverages = [1, -0.5, 0.3, 2];
    const gradients = decoderBackward(decoder, batch, decoderForward(decoder, batch), dAverages);
    assert.deepEqual([...gradients.keys()].sort(), [...decoder.weights.keys()].sort());
    for (const [name, weight] of decoder.weights) {
      const loss = (changed: Numbers) => {
        const weights = new Map([...decoder.weights, [name, changed]]);
        return project(decoderForward({ ...decoder, weights }, batch).averages, dAverages);
      };
      assertClose(gradients.get(name)!, finiteDifference(loss, weight), { rtol: 1e-7, name });
    }
  });
}

/** A reference model as a float64 decoder, with its adapter on request, and its pairs as one packed batch. */
async function referenceDecoder(model: ReferenceModel, withLora: boolean) {
  const reference = await readReference(model);
  const config = await readModelConfig(`${VALUES}/${model}/model`);
  const weights = await readWeights(model);
  const base: Decoder = { config, weights, frequencies: reference.rotary_frequencies };
  const { tensors } = await readAdapter(`${VALUES}/${model}/adapter`, config);
  const modules = new Map(tensors.map(({ module, a, b }) => [module.path, { a, b }]));
  const { r, alpha } = reference.lora;
  const decoder = withLora ? { ...base, lora: { rank: r, scale: alpha / r, modules } } : base;

  const packed = packedExample(
    reference.pairs.map(({ prompt, chosen, rejected }) => ({
      prompt: prompt.length,
      responses: [chosen.length, rejected.length],
    })),
  );
  const ids = reference.pairs.flatMap(({ prompt, chosen, rejected }) => [...prompt, ...chosen, ...rejected]);
  const batch: DecoderBatch = {
    token_ids: ids,
    positions: packed.positions,
    spans: packed.spans,
    head_tokens: packed.headTokens,
    targets: packed.targetTokens.map((token) => ids[token]!),
    sequence_rows: packed.sequenceRows,
  };
  const numTokens = reference.pairs.flatMap(({ chosen, rejected }) => [chosen.length, rejected.length]);
  return { decoder, batch, numTokens, reference };
}

for (const model of REFERENCE_MODELS) {
  for (const kind of ["full", "lora"] as const) {
    Deno.test(`decoderForward() and decoderBackward() agree with PyTorch: ${model}, ${kind}`, async () => {
      const { decoder, batch, numTokens, reference } = await referenceDecoder(model, kind === "lora");
      const expected = reference[kind];
      const forward = decoderForward(decoder, batch);
      const exact = { rtol: 1e-11 };
      assertClose(forward.head.logprobs, expected.token_logprobs.flat(), { ...exact, name: "log-probs" });
      assertClose(forward.averages, expected.average_logprobs, { ...exact, name: "averages" });
      const meanLogits = averageLogprobs(forward.head.logitSums, batch.sequence_rows)
        .map((sum) => sum / decoder.config.vocab_size);
      assertClose(meanLogits, expected.mean_logits, { ...exact, name: "mean logits" });

      for (const [name, loss] of Object.entries(expected.losses)) {
        const result = simpoLoss(forward.averages, numTokens, {
          beta: loss.beta,
          gamma: loss.gamma,
          lossType: loss.loss_type,
          labelSmoothing: loss.label_smoothing,
          sftWeight: loss.sft_weight,
        });
        assertClose([result.loss], [loss.loss], { ...exact, name: `loss ${name}` });
        assertClose(result.dAverages, loss.d_average_logprobs, {
          ...exact,
          name: `gradient of the loss ${name}`,
        });
      }

      const dAverages = expected.losses.sigmoid.d_average_logprobs;
      const gradients = decoderBackward(decoder, batch, forward, dAverages);
      const wanted = await readGradients(model, kind);
      const prefix = kind === "lora" ? "base_model.model." : "";
      assert.deepEqual([...gradients.keys()].map((name) => prefix + name).sort(), [...wanted.keys()].sort());
      for (const [name, gradient] of gradients) {
        const { values, shape } = wanted.get(prefix + name)!;
        assertClose(gradient, values, { ...exact, name, shape });
      }
      assertClose([globalNorm([...gradients.values()])], [expected.grad_norm], exact);
    });
  }
}

const VARIANTS: [ReferenceModel, string][] = [
  ["tied", "model_f16"],
  ["grouped", "model_bf16"],
  ["grouped", "model_sharded"],
];
for (const [model, folder] of VARIANTS) {
  Deno.test(`WeightFiles reads the values of ${model}/model from ${folder}, as transformers wrote it`, async () => {
    const [expected, actual] = await Promise.all([readWeights(model), readWeights(model, folder)]);
    assert.deepEqual([...actual.keys()].sort(), [...expected.keys()].sort());
    for (const [name, values] of expected) assertClose(actual.get(name)!, values, { rtol: 0, name });
    assert.deepEqual(
      await readModelConfig(`${VALUES}/${model}/${folder}`),
      await readModelConfig(`${VALUES}/${model}/model`),
    );
  });
}

for (const model of REFERENCE_MODELS) {
  Deno.test(`ropeFrequencies() gives what transformers computes: ${model}`, async () => {
    const config = await readModelConfig(`${VALUES}/${model}/model`);
    const { rotary_frequencies } = await readReference(model);
    assertClose(ropeFrequencies(config.plan.ropes[0]!), rotary_frequencies, {
      rtol: 1.2e-7,
      relativeTo: "element",
    });
  });
}
