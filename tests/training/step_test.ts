import assert from "node:assert/strict";
import { defineKernel, Gpu } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { loadDecoder } from "../../src/model/loading.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { objectiveOf } from "../../src/objective/mod.ts";
import type { Objective } from "../../src/objective/objective.ts";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import { packGroups } from "../../src/preference/pack.ts";
import { ofList, TrainStep } from "../../src/training/step.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { encodedGroup, readParameters, SIMPO } from "../helpers/decoder_step.ts";
import { inFolder } from "../helpers/folder.ts";
import { settingsOf } from "../helpers/settings.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const KERNEL = `
struct Params { sequences: u32, token_weight: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read_write> coefficients: array<f32>; // [sequences]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < params.sequences) {
    coefficients[id.x] = -params.token_weight;
  }
}
`;

/** The likelihood of a completion and its prompt. */
const WHOLE_TEXT: Objective = {
  ...objectiveOf({ type: "sft" }),
  scoresPrompt: true,
  record(program, _method, { coefficients }) {
    const kernel = defineKernel({ name: "whole_text", source: KERNEL });
    program.dispatch(kernel, { coefficients }, ({ examples, step_chosen_tokens }) => ({
      params: { sequences: 2 * examples, token_weight: 1 / step_chosen_tokens },
      workgroups: [Math.ceil(examples / 4), 1, 1],
    }));
  },
};

Deno.test("TrainStep scores the prompt's tokens too where the objective asks for them", async () => {
  await inFolder(async (folder) => {
    await writeTinyModel(folder);
    const gpu = await Gpu.open({ device: "auto" });
    using checkpoint = await WeightFiles.open(folder);
    const config = await readModelConfig(folder);
    const gradientsOf = async (objective: Objective, groups: readonly EncodedGroup[]) => {
      const { decoder, trained, free } = await loadDecoder(gpu, checkpoint, config, { trainable: true });
      const settings = { ...settingsOf({ lora: null }), method: { type: "sft" } as const };
      const budget = { tokens: 32, rows: 32, sequences: 32 };
      const step = new TrainStep(gpu, { decoder, settings, objective }, budget);
      const batch = packGroups(groups, [], objective.scoresPrompt);
      step.training.run(step.upload(batch, { step_examples: groups.length, step_chosen_tokens: 9 }));
      const gradients = await readParameters(gpu, trained!, "gradient");
      step.free();
      free();
      return gradients;
    };
    const whole = await gradientsOf(WHOLE_TEXT, [
      encodedGroup([1, 2, 3, 4], [[5, 6]]),
      encodedGroup([7], [[8, 9]]),
    ]);
    const apart = [encodedGroup([1], [[2, 3, 4, 5, 6]]), encodedGroup([7], [[8, 9]])];
    const expected = await gradientsOf(objectiveOf({ type: "sft" }), apart);
    for (const [name, values] of expected) assertClose(whole.get(name)!, values, { rtol: 1e-5, name });
    gpu.close();
  });
});

Deno.test("TrainStep updates by what stands in the gradients once its hook has returned", async () => {
  await inFolder(async (folder) => {
    await writeTinyModel(folder);
    const gpu = await Gpu.open({ device: "auto" });
    using checkpoint = await WeightFiles.open(folder);
    const config = await readModelConfig(folder);
    const { decoder, trained, free } = await loadDecoder(gpu, checkpoint, config, { trainable: true });
    const settings = { ...settingsOf({ lora: null }), method: SIMPO };
    const { segments } = trained!;
    const step = new TrainStep(gpu, { decoder, segments, settings }, { tokens: 16, rows: 16, sequences: 16 });
    // two micro-batches
    const groups = ofList(
      [[[4, 5], [6]], [[7], [8, 9, 10]]].map((each) => encodedGroup([1, 2, 3, 5, 6, 7], each)),
    );
    const update = { step: 1, learning_rate: 0.1 };
    const before = await readParameters(gpu, trained!, "value");
    let gathered = 0;
    const batches = await step.run(groups, update, {}, async () => {
      for (const values of (await readParameters(gpu, trained!, "gradient")).values()) {
        gathered += values.filter((value) => value !== 0).length;
      }
      assert.deepEqual(await readParameters(gpu, trained!, "value"), before);
      for (const { gradient } of segments) gpu.write(gradient, new Float32Array(gradient.bytes / 4));
    });
    assert.equal(batches, 2);
    assert.ok(gathered > 1000, `${gathered} gradients`);
    assert.deepEqual(await readParameters(gpu, trained!, "value"), before);
    await step.run(groups, update, {});
    assert.notDeepEqual(await readParameters(gpu, trained!, "value"), before);
    step.free();
    free();
    gpu.close();
  });
});
