import assert from "node:assert/strict";
import { Gpu } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { loadDecoder } from "../../src/model/loading.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { ofList, TrainStep } from "../../src/training/step.ts";
import { encodedGroup, readParameters, SIMPO } from "../helpers/decoder_step.ts";
import { inFolder } from "../helpers/folder.ts";
import { settingsOf } from "../helpers/settings.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

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
