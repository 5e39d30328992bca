/** A checkpoint of a job with one bit of one byte changed, every byte of every file in turn. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { findCheckpoint } from "../../src/training/checkpoint.ts";
import { filesOf } from "../../tests/engine/_lab.ts";
import { inFolder } from "../../tests/helpers/folder.ts";
import { random } from "../../tests/helpers/random.ts";
import { runTiny } from "../../tests/training/_run.ts";
import type { Soak } from "./_soak.ts";

const LEARNED = ["adapter_config.json", "adapter_model.safetensors"];

/** A cell a file. */
export const checkpoints: Soak = {
  proves: "a checkpoint of which any byte is another is not gone on from",
  version: 1,
  cells: ["manifest.json", "optimizer.safetensors", ...LEARNED, "tokenizer.json", "tokenizer_config.json"],
  minutesPerCell: 2,
  async run(cell, signal) {
    const figures = { bytes: 0, of_the_same_meaning: 0 };
    await inFolder(async (directory) => {
      const spec = { lora: { r: 1, target_modules: ["q_proj"] }, max_length: 24, max_prompt_length: 16 };
      await runTiny({ directory, spec });
      const folder = join(directory, "checkpoints");
      const find = () => findCheckpoint(folder, LEARNED, assert.fail);
      const { state } = (await find())!;
      const [[name, bytes]] = Object.entries(await filesOf(folder)).filter(([name]) =>
        name.endsWith(cell)
      ) as [
        [string, Uint8Array<ArrayBuffer>],
      ];
      const source = random(1);
      for (const [at, byte] of bytes.entries()) {
        signal.throwIfAborted();
        await Deno.writeFile(join(folder, name), bytes.with(at, byte ^ (1 << source.integer(8))));
        const found = await find().catch((error) => error);
        figures.bytes++;
        if (found instanceof InputError) continue;
        // a number may be written in several ways: 1E-7 is 1e-7
        assert.equal(cell, "manifest.json", `byte ${at}`);
        assert.deepEqual(found.state, state);
        figures.of_the_same_meaning++;
      }
    });
    return figures;
  },
};
