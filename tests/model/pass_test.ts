import assert from "node:assert/strict";
import { copyFile, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { Gpu, type MatmulDesign, Program } from "../../src/gpu/mod.ts";
import { readAdapter } from "../../src/model/adapter.ts";
import type { AdapterConfig } from "../../src/model/adapter_config.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { type Block, type Decoder, loraSpecs, withLora } from "../../src/model/decoder.ts";
import type { Linear } from "../../src/model/layers/linear.ts";
import { loadDecoder, type LoadedDecoder, uploadAdapter } from "../../src/model/loading.ts";
import { TrainedParameters } from "../../src/model/parameters.ts";
import { type BatchLive, tokensById } from "../../src/model/batch.ts";
import { DecoderPass } from "../../src/model/pass.ts";
import { mostTokens } from "../../src/model/pass_layers.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { adapterName } from "../../src/model/weights.ts";
import type { Method } from "../../src/objective/mod.ts";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import { packGroups, unsharedGroups } from "../../src/preference/pack.ts";
import { assertClose } from "../helpers/assert_close.ts";
import {
  budgetFor,
  encodedGroup,
  readParameters,
  scoreGroups,
  SIMPO,
  type Step,
  trainingStep,
} from "../helpers/decoder_step.ts";
import { random } from "../helpers/random.ts";
import { decoderBackward, decoderForward, type Gradients } from "../reference/cpu.ts";
import {
  readGradients,
  readReference,
  readWeights,
  REFERENCE_MODELS,
  type ReferenceModel,
  VALUES,
} from "../reference/values.ts";

const gpu = await Gpu.open({ device: "auto" });

type Kind = "full" | "lora";

async function referenceGroups(model: ReferenceModel): Promise<EncodedGroup[]> {
  const { pairs } = await readReference(model);
  return pairs.map(({ prompt, chosen, rejected }, i) => encodedGroup(prompt, [chosen, rejected], i));
}

interface Loaded extends Disposable {
  readonly decoder: Decoder;
  readonly trained: TrainedParameters;
}

/** A reference model to be trained: all of it, or its adapter. */
async function load(
  gpu: Gpu,
  model: ReferenceModel,
  kind: Kind,
  { folder = "model", dropout = 0 }: { folder?: string; dropout?: number } = {},
): Promise<Loaded> {
  const dir = `${VALUES}/${model}/${folder}`;
  using checkpoint = await WeightFiles.open(dir);
  const config = await readModelConfig(dir);
  const loaded = await loadDecoder(gpu, checkpoint, config, { trainable: kind === "full" });
  if (kind === "full") {
    return { decoder: loaded.decoder, trained: loaded.trained!, [Symbol.dispose]: () => loaded.free() };
  }
  const adapter = await readAdapter(`${VALUES}/${model}/adapter`, config);
  const trained = new TrainedParameters(gpu, loraSpecs(config, adapter.config));
  for (const { module, a, b } of adapter.tensors) {
    gpu.write(trained.get(`${module.path}.lora_A`).value, a);
    gpu.write(trained.get(`${module.path}.lora_B`).value, b);
  }
  const decoder = withLora(
    loaded.decoder,
    (name) => trained.parameters.get(name),
    scaleOf(adapter.config),
    dropout,
  );
  return {
    decoder,
    trained,
    [Symbol.dispose]: () => {
      trained.free();
      loaded.free();
    },
  };
}

function scaleOf({ lora_alpha, r }: AdapterConfig): number {
  return lora_alpha / r;
}

function assertGradients(
  actual: ReadonlyMap<string, Float32Array>,
  expected: ReadonlyMap<string, ArrayLike<number>>,
  rtol: number,
): void {
  assert.deepEqual([...actual.keys()].sort(), [...expected.keys()].sort());
  for (const [name, values] of expected) assertClose(actual.get(name)!, values, { rtol, name });
}

async function assertAsReference(actual: Step, model: ReferenceModel, kind: Kind): Promise<void> {
  const reference = (await readReference(model))[kind];
  const { sigmoid } = reference.losses;
  assert.deepEqual([sigmoid.beta, sigmoid.gamma, sigmoid.sft_weight], [2, 1, 0]);
  assertClose(actual.logprobs, reference.token_logprobs.flat(), { rtol: 1e-5, name: "log-probs" });
  assertClose(actual.averages, reference.average_logprobs, { rtol: 1e-5, name: "average log-probs" });
  assertClose(actual.meanLogits, reference.mean_logits, { rtol: 1e-5, name: "mean logits" });
  assertClose([actual.metrics.loss!], [sigmoid.loss], { rtol: 1e-5, name: "loss" });
  const gradients = await readGradients(model, kind);
  assertGradients(
    actual.gradients,
    new Map([...gradients].map(([name, { values }]) => [name, values])),
    1e-4,
  );
  const squares = [...actual.gradients.values()].flatMap((values) => [...values]).reduce(
    (sum, g) => sum + g * g,
    0,
  );
  assertClose([Math.sqrt(squares)], [reference.grad_norm], { rtol: 1e-5, name: "gradient norm" });
}

for (const model of REFERENCE_MODELS) {
  for (const kind of ["full", "lora"] as const) {
    Deno.test(`DecoderPass agrees with PyTorch: ${model}, ${kind}, stored and recomputed`, async () => {
      using loaded = await load(gpu, model, kind);
      const groups = [await referenceGroups(model)];
      const stored = await trainingStep(gpu, loaded, groups);
      await assertAsReference(stored, model, kind);
      using again = await load(gpu, model, kind);
      const recomputed = await trainingStep(gpu, again, groups, { options: { recompute: true } });
      assert.deepEqual(recomputed, stored);
    });
  }
}

const DESIGNS: readonly MatmulDesign[] = ["subgroup", "direct", "tiled"];
for (const matmul of DESIGNS.filter((design) => design !== gpu.policy.matmul)) {
  Deno.test({
    name: `DecoderPass agrees with PyTorch by the matmul design ${matmul}`,
    ignore: matmul === "subgroup" && gpu.adapter.subgroupSize !== 8,
    fn: async () => {
      const own = await Gpu.open({
        device: "auto",
        policy: { matmul, row_lanes: gpu.policy.row_lanes === 1 ? 64 : 1 },
      });
      for (const [model, kind] of [["grouped", "full"], ["odd", "lora"]] as const) {
        using loaded = await load(own, model, kind);
        await assertAsReference(await trainingStep(own, loaded, [await referenceGroups(model)]), model, kind);
      }
      own.close();
    },
  });
}

for (
  const [model, folder] of [["tied", "model_f16"], ["grouped", "model_bf16"], [
    "grouped",
    "model_sharded",
  ]] as const
) {
  Deno.test(`DecoderPass agrees with PyTorch: ${model}/${folder}, trained and frozen`, async () => {
    const groups = [await referenceGroups(model)];
    for (const kind of ["full", "lora"] as const) {
      using loaded = await load(gpu, model, kind, { folder });
      await assertAsReference(await trainingStep(gpu, loaded, groups), model, kind);
    }
  });
}

Deno.test("DecoderPass gives packed, unshared and single responses the same log-probs and gradients", async () => {
  for (const kind of ["full", "lora"] as const) {
    const groups = await referenceGroups("grouped");
    using packed = await load(gpu, "grouped", kind);
    const shared = await trainingStep(gpu, packed, [groups]);
    const { d_average_logprobs: dAverages } = (await readReference("grouped"))[kind].losses.sigmoid;
    const layouts = {
      "one unshared batch": [groups.flatMap(unsharedGroups)],
      "each response alone": groups.flatMap(unsharedGroups).map((group) => [group]),
    };
    for (const [name, batches] of Object.entries(layouts)) {
      using loaded = await load(gpu, "grouped", kind);
      const apart = await trainingStep(gpu, loaded, batches, { dAverages });
      assertClose(apart.logprobs, shared.logprobs, { rtol: 1e-5, name: `log-probs, ${name}` });
      assertClose(apart.averages, shared.averages, { rtol: 1e-5, name: `average log-probs, ${name}` });
      assertGradients(apart.gradients, shared.gradients, 1e-4);
    }
  }
});

Deno.test("DecoderPass adds micro-batches to what one batch gives", async () => {
  const groups = await referenceGroups("grouped");
  const methods: Method[] = [{ ...SIMPO, label_smoothing: 0.1, sft_weight: 0.3 }, { type: "sft" }];
  for (const method of methods) {
    for (const kind of ["full", "lora"] as const) {
      using once = await load(gpu, "grouped", kind);
      const whole = await trainingStep(gpu, once, [groups], { method });
      using several = await load(gpu, "grouped", kind);
      // the largest first: what it left behind must not show
      const order = [groups[4]!, groups[0]!, groups[1]!, groups[2]!, groups[3]!];
      const batches = [order.slice(0, 1), order.slice(1, 3), order.slice(3)];
      const pieces = await trainingStep(gpu, several, batches, { method });
      assertGradients(pieces.gradients, whole.gradients, 1e-5);
      for (const [name, value] of Object.entries(whole.metrics)) {
        assertClose([pieces.metrics[name]!], [value], { rtol: 1e-5, name });
      }
    }
  }
});

Deno.test("DecoderPass does not depend on the vocabulary's chunks", async () => {
  for (const model of ["tied", "grouped"] as const) {
    for (const kind of ["full", "lora"] as const) {
      using loaded = await load(gpu, model, kind);
      const chunked = await trainingStep(gpu, loaded, [await referenceGroups(model)], {
        options: { logits_bytes: 1 },
      });
      await assertAsReference(chunked, model, kind);
    }
  }
});

Deno.test("DecoderPass does not depend on how a table is split for a small device", async () => {
  // room for 64 rows of a table, and for 50 tokens of activations
  for (const [model, maxTensorBytes] of [["tied", 12_000], ["grouped", 24_000]] as const) {
    const own = await Gpu.open({ device: "auto", maxTensorBytes });
    const groups = await referenceGroups(model);
    const batches = [groups.slice(0, 2), groups.slice(2, 4)];
    for (const kind of ["full", "lora"] as const) {
      using whole = await load(gpu, model, kind);
      using split = await load(own, model, kind);
      assert.equal(whole.decoder.embedding.length, 1);
      assert.deepEqual(
        split.decoder.embedding.map(({ first_row }) => first_row % 64),
        model === "tied" ? [0, 0] : [0, 0, 0],
      );
      const expected = await trainingStep(gpu, whole, batches);
      const actual = await trainingStep(own, split, batches);
      assertClose(actual.logprobs, expected.logprobs, { rtol: 1e-5, name: "log-probs" });
      assertGradients(actual.gradients, expected.gradients, 1e-5);
    }
    own.close();
  }
});

Deno.test("DecoderPass gives the same bits in two runs", async () => {
  const groups = await referenceGroups("odd");
  for (const kind of ["full", "lora"] as const) {
    const run = async () => {
      using loaded = await load(gpu, "odd", kind, { dropout: 0.1 });
      return await trainingStep(gpu, loaded, [groups.slice(0, 3), groups.slice(3)], { dropoutSeed: 7 });
    };
    assert.deepEqual(await run(), await run());
  }
});

Deno.test("DecoderPass drops out the adapter's input by the seed, forward as in the backward", async () => {
  const groups = [await referenceGroups("odd")];
  using loaded = await load(gpu, "odd", "lora", { dropout: 0.3 });
  const first = await trainingStep(gpu, loaded, groups, { dropoutSeed: 1 });
  using again = await load(gpu, "odd", "lora", { dropout: 0.3 });
  const recomputed = await trainingStep(gpu, again, groups, { dropoutSeed: 1, options: { recompute: true } });
  assert.deepEqual(recomputed, first);
  const other = await trainingStep(gpu, again, groups, { dropoutSeed: 2, backward: false });
  assert.notDeepEqual(other.logprobs, first.logprobs);

  // along a random direction the loss changes as the gradient says
  const { normals } = random(5);
  const direction = new Map([...first.gradients].map(([name, values]) => [name, normals(values.length)]));
  const start = await readParameters(gpu, loaded.trained, "value");
  const distance = 3e-4;
  const losses = [];
  for (const sign of [1, -1]) {
    for (const { name, value } of loaded.trained.parameters.values()) {
      const key = adapterName(`${name}.weight`);
      gpu.write(value, start.get(key)!.map((x, i) => x + sign * distance * direction.get(key)![i]!));
    }
    losses.push((await trainingStep(gpu, loaded, groups, { dropoutSeed: 1, backward: false })).metrics.loss!);
  }
  let slope = 0;
  for (const [name, values] of first.gradients) {
    values.forEach((g, i) => slope += g * direction.get(name)![i]!);
  }
  assertClose([(losses[0]! - losses[1]!) / (2 * distance)], [slope], { rtol: 5e-3, name: "slope" });
});

/** The same numbers, with nothing trained below a block. */
function frozenBelow({ blocks, ...decoder }: Decoder, lowest: number): Decoder {
  const frozen = (linear: Linear): Linear => ({
    ...linear,
    lora: linear.lora && {
      ...linear.lora,
      a: { ...linear.lora.a, gradient: null },
      b: { ...linear.lora.b, gradient: null },
    },
  });
  const mapped = blocks.map((block, layer): Block => {
    if (layer >= lowest) return block;
    const linears = Object.entries(block.linears).map(([name, linear]) => [name, frozen(linear)]);
    return { ...block, linears: Object.fromEntries(linears) };
  });
  return { ...decoder, blocks: mapped };
}

Deno.test("DecoderPass keeps nothing of blocks below the lowest trained one, and computes no gradient there", async () => {
  for (const model of REFERENCE_MODELS) {
    const groups = [await referenceGroups(model)];
    for (const options of [{}, { recompute: true }]) {
      using whole = await load(gpu, model, "lora");
      const layers = whole.decoder.blocks.length;
      const expected = await trainingStep(gpu, whole, groups, { options });
      for (let lowest = 1; lowest <= layers; lowest++) {
        using loaded = await load(gpu, model, "lora");
        const part = { ...loaded, decoder: frozenBelow(loaded.decoder, lowest) };
        const actual = await trainingStep(gpu, part, groups, { options });
        assert.deepEqual(actual.logprobs, expected.logprobs);
        for (const [name, values] of actual.gradients) {
          const layer = Number(/layers\.(\d+)\./.exec(name)![1]);
          const wanted = expected.gradients.get(name)!;
          assert.deepEqual(
            values,
            layer < lowest ? wanted.map(() => 0) : wanted,
            `${name}, ${lowest} frozen`,
          );
        }
      }
    }
  }
});

Deno.test("DecoderPass takes memory for the activations of trained blocks alone", async () => {
  using loaded = await load(gpu, "grouped", "lora");
  const layers = loaded.decoder.blocks.length;
  const budget = { tokens: 64, rows: 32, sequences: 4 };
  const bytesFrom = (lowest: number, name: string) => {
    const decoder = frozenBelow(loaded.decoder, lowest);
    const pass = new DecoderPass(gpu, decoder, budget, { mode: "train" });
    const bytes = gpu.memory.byName()[name]!;
    pass.free();
    return bytes;
  };
  const { intermediate_size, hidden_size } = loaded.decoder.config;
  for (let lowest = 0; lowest <= layers; lowest++) {
    const sets = Math.max(1, layers - lowest);
    assert.equal(bytesFrom(lowest, "train.activations.up"), sets * 64 * intermediate_size * 4);
    assert.equal(bytesFrom(lowest, "train.activations.middle"), sets * 64 * hidden_size * 4);
    assert.equal(bytesFrom(lowest, "train.stream.0"), lowest === 0 ? 64 * hidden_size * 4 : undefined);
  }
});

Deno.test("DecoderPass of an adapter makes gradients of the adapter's matrices alone", async () => {
  for (const model of REFERENCE_MODELS) {
    using loaded = await load(gpu, model, "lora");
    const { blocks } = loaded.decoder;
    const batch = packGroups(await referenceGroups(model));
    for (const lowest of [0, blocks.length - 1]) {
      const decoder = frozenBelow(loaded.decoder, lowest);
      const pass = new DecoderPass(gpu, decoder, budgetFor([batch]), { mode: "train" });
      const program = new Program<BatchLive>(gpu, "backward");
      pass.recordBackward(program);
      const kernels = program.dispatches({ ...pass.upload(batch), dropout_seed: 0 }).map(({ kernel }) =>
        kernel
      );
      const adapted = blocks.slice(lowest).flatMap(({ linears }) => Object.values(linears))
        .filter(({ lora }) => lora);
      // X^T Y is the shape of a weight's gradient
      assert.equal(kernels.filter((name) => /^matmul_.*_TN_/.test(name)).length, 2 * adapted.length);
      const others = kernels.filter((name) => /weight_grad|bias_grad|embedding_grad/.test(name));
      assert.deepEqual(others, []);
      program.free();
      pass.free();
    }
  }
});

Deno.test("DecoderPass for scoring gives the log-probs of training, and no gradients", async () => {
  const dir = `${VALUES}/grouped/model_bf16`;
  const config = await readModelConfig(dir);
  using checkpoint = await WeightFiles.open(dir);
  const loaded: LoadedDecoder = await loadDecoder(gpu, checkpoint, config, { trainable: false });
  assert.equal(loaded.trained, null);
  const adapter = await readAdapter(`${VALUES}/grouped/adapter`, config);
  const parameters = await uploadAdapter(gpu, adapter);
  // an adapter's dropout is for training alone
  const adapted = withLora(loaded.decoder, (name) => parameters.get(name), scaleOf(adapter.config), 0.5);
  const groups = await referenceGroups("grouped");
  const reference = await readReference("grouped");
  for (const [decoder, kind] of [[loaded.decoder, "full"], [adapted, "lora"]] as const) {
    const { logprobs } = await scoreGroups(gpu, decoder, groups);
    assertClose(logprobs, reference[kind].token_logprobs.flat(), { rtol: 1e-5, name: `${kind} log-probs` });
  }
  const pass = new DecoderPass(gpu, loaded.decoder, budgetFor([packGroups(groups)]), { mode: "score" });
  assert.throws(() => pass.recordBackward(new Program<BatchLive>(gpu, "backward")), /scoring keeps nothing/);
  pass.free();
  gpu.free(...[...parameters.values()].map(({ value }) => value));
  loaded.free();
});

Deno.test("DecoderPass takes groups without a prompt, single tokens and many candidates as float64 does", async () => {
  const response = (scored_from: number, ...tokens: number[]) => ({
    tokens: Uint32Array.from(tokens),
    scored_from,
    truncated: false,
  });
  const group = (prompt: number[], ...responses: EncodedGroup["responses"][number][]): EncodedGroup => ({
    row: 1,
    prompt: Uint32Array.from(prompt),
    responses,
    prompt_truncated: 0,
  });
  const groups = [
    group([], response(1, 3, 9, 60), response(2, 3, 3, 4)),
    group([5], response(0, 1), response(0, 1)),
    group([1, 2, 3], response(0, 7), response(1, 8, 9), response(0, 7, 7, 7, 7, 7), response(0, 0)),
  ];
  const dir = `${VALUES}/odd/model`;
  const config = await readModelConfig(dir);
  const reference = {
    config,
    weights: await readWeights("odd"),
    frequencies: ropeFrequencies(config.plan.ropes[0]!),
  };
  const batch = packGroups(groups);
  const forward = decoderForward(reference, batch);
  const dAverages = random(2).normals(batch.sequences);
  const expected: Gradients = decoderBackward(reference, batch, forward, dAverages);
  using loaded = await load(gpu, "odd", "full");
  const actual = await trainingStep(gpu, loaded, [groups], { dAverages });
  assertClose(actual.logprobs, forward.head.logprobs, { rtol: 1e-5, name: "log-probs" });
  assertClose(actual.averages, forward.averages, { rtol: 1e-5, name: "average log-probs" });
  assertGradients(actual.gradients, expected, 1e-4);
});

Deno.test("DecoderPass runs an empty batch, and the next one as if it had not", async () => {
  const groups = await referenceGroups("odd");
  using first = await load(gpu, "odd", "full");
  using second = await load(gpu, "odd", "full");
  const with_empty = await trainingStep(gpu, first, [groups.slice(0, 2), [], groups.slice(2)]);
  assert.deepEqual(with_empty, await trainingStep(gpu, second, [groups.slice(0, 2), groups.slice(2)]));
});

Deno.test("DecoderPass.upload() refuses a batch past the budget", async () => {
  using loaded = await load(gpu, "odd", "lora");
  const batch = packGroups(await referenceGroups("odd"));
  const budget = { tokens: batch.tokens, rows: batch.rows, sequences: batch.sequences };
  for (const key of ["tokens", "rows", "sequences"] as const) {
    const pass = new DecoderPass(gpu, loaded.decoder, { ...budget, [key]: budget[key] - 1 }, {
      mode: "score",
    });
    assert.throws(() => pass.upload(batch), RangeError, key);
    pass.free();
  }
});

Deno.test("mostTokens() is the largest budget that a device's bindings have room for", async () => {
  for (const [model, rank, expected] of [["tied", 0, 97], ["grouped", 0, 52], ["tied", 2000, 3]] as const) {
    const own = await Gpu.open({ device: "auto", maxTensorBytes: 25_000 });
    using loaded = await load(own, model, "full");
    const { decoder } = loaded;
    const most = mostTokens(own, decoder.config, rank);
    assert.equal(most, expected);
    const passOf = (tokens: number) =>
      new DecoderPass(own, decoder, { tokens, rows: tokens, sequences: tokens }, { mode: "train" });
    if (rank === 0) {
      assert.throws(() => passOf(most + 1), /^RangeError: .* has \d+ bytes; one binding holds at most 24992/);
    }
    passOf(most).free();
    own.close();
  }
});

Deno.test("DecoderPass gives back all it took where it does not fit", async () => {
  using loaded = await load(gpu, "odd", "lora");
  const own = await Gpu.open({ device: "auto", memoryLimitBytes: 40_000 });
  assert.throws(
    () => new DecoderPass(own, loaded.decoder, { tokens: 100, rows: 50, sequences: 10 }, { mode: "train" }),
    { name: "GpuMemoryError" },
  );
  assert.equal(own.memory.bytes, 0);
  own.close();
});

Deno.test("tokensById() lists each distinct id once with its tokens", () => {
  assert.deepEqual(tokensById(Uint32Array.of(7, 2, 7, 0, 2, 7)), {
    ids: Uint32Array.of(0, 2, 7),
    id_offsets: Uint32Array.of(0, 1, 3, 6),
    id_tokens: Uint32Array.of(3, 1, 4, 0, 2, 5),
  });
  assert.deepEqual(tokensById(new Uint32Array(0)), {
    ids: new Uint32Array(0),
    id_offsets: Uint32Array.of(0),
    id_tokens: new Uint32Array(0),
  });
});

Deno.test("loadDecoder() measures a weight as it lies on the GPU, and refuses one larger than a binding by name", async () => {
  const dir = `${VALUES}/grouped/model_bf16`;
  const own = await Gpu.open({ device: "auto", maxTensorBytes: 15_000 });
  using checkpoint = await WeightFiles.open(dir);
  const config = await readModelConfig(dir);
  const frozen = await loadDecoder(own, checkpoint, config, { trainable: false });
  assert.deepEqual(frozen.decoder.head.map(({ rows }) => [rows.value.dtype, rows.value.bytes]), [
    ["bf16", 131 * 48 * 2],
  ]);
  frozen.free();
  await assert.rejects(loadDecoder(own, checkpoint, config, { trainable: true }), (error) => {
    assert.ok(error instanceof InputError);
    assert.equal(
      error.message,
      "The weight model.layers.0.self_attn.q_proj.weight [120,48] takes 23040 bytes as f32, more than a tensor may have here.",
    );
    assert.equal(error.problem.accepted, "at most 14992 bytes on this device");
    return true;
  });
  assert.equal(own.memory.bytes, 0);
  own.close();
});

Deno.test("loadDecoder() refuses weights that are not finite, by name, and gives back its memory", async () => {
  for (
    const [model, folder, bytes] of [
      ["tied", "model", [0, 0, 0xc0, 0x7f]], // NaN in F32
      ["tied", "model_f16", [0, 0x7c]], // infinity in F16
      ["grouped", "model_bf16", [0x80, 0xff]], // -infinity in BF16
    ] as const
  ) {
    const dir = await mkdtemp(join(tmpdir(), "weights-"));
    for (const name of ["config.json", "model.safetensors"]) {
      await copyFile(`${VALUES}/${model}/${folder}/${name}`, join(dir, name));
    }
    const config = await readModelConfig(dir);
    const bad = "model.layers.1.mlp.down_proj.weight";
    const { begin } = await (async () => {
      using checkpoint = await WeightFiles.open(dir);
      return checkpoint.info(bad);
    })();
    const file = await open(join(dir, "model.safetensors"), "r+");
    await file.write(Uint8Array.from(bytes), 0, bytes.length, begin + 5 * bytes.length);
    await file.close();
    using checkpoint = await WeightFiles.open(dir);
    const before = gpu.memory.bytes;
    for (const trainable of [true, false]) {
      await assert.rejects(loadDecoder(gpu, checkpoint, config, { trainable }), (error) => {
        assert.ok(error instanceof InputError);
        assert.match(
          error.message,
          /model\.layers\.1\.mlp\.down_proj\.weight holds NaN or infinity at \[0, 5\]/,
        );
        return true;
      });
      assert.equal(gpu.memory.bytes, before);
    }
    await rm(dir, { recursive: true });
  }
});
