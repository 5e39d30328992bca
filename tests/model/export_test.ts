import assert from "node:assert/strict";
import { type WeightSource, writeModel } from "../../src/model/export.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { fromF32 } from "../../src/model/dtype.ts";
import { inFolder } from "../helpers/folder.ts";

function source(name: string, ...numbers: number[]): WeightSource {
  return {
    name,
    shape: [1, numbers.length],
    dtype: "F32",
    values: async function* () {
      yield await Promise.resolve(Float32Array.from(numbers));
    },
  };
}

async function numbersOf(folder: string, name: string): Promise<number[]> {
  using checkpoint = await WeightFiles.open(folder);
  return [...await checkpoint.readF32(name)];
}

const readConfig = async (folder: string) => JSON.parse(await Deno.readTextFile(`${folder}/config.json`));

Deno.test("writeModel() says the weights' type by the name that the base's config.json has for it", () =>
  inFolder(async (dir) => {
    const cases: [base: Record<string, unknown>, expected: Record<string, unknown>][] = [
      [{}, { dtype: "bfloat16" }],
      [{ torch_dtype: "float32" }, { torch_dtype: "bfloat16" }],
      [{ dtype: "float32", torch_dtype: "float32" }, { dtype: "bfloat16", torch_dtype: "bfloat16" }],
    ];
    for (const [base, expected] of cases) {
      await Deno.writeTextFile(`${dir}/config.json`, JSON.stringify({ ...base, rope_theta: 1 }));
      const out = await Deno.makeTempDir({ dir });
      await writeModel(out, dir, [source("w", 1)], { dtype: "BF16" });
      assert.deepEqual(await readConfig(out), { ...expected, rope_theta: 1 });
    }
  }));

Deno.test("writeModel() rounds to the nearest, ties to even, and refuses what the type cannot hold", () =>
  inFolder(async (dir) => {
    await Deno.writeTextFile(`${dir}/config.json`, "{}");
    const written = async (dtype: "F16" | "BF16", ...numbers: number[]) => {
      const out = await Deno.makeTempDir({ dir });
      await writeModel(out, dir, [source("w", ...numbers)], { dtype });
      return await numbersOf(out, "w");
    };
    const ulp = 2 ** -8;
    assert.deepEqual(await written("BF16", 1 + ulp, 1 + 3 * ulp, 1 + 1.01 * ulp), [
      1,
      1 + 4 * ulp,
      1 + 2 * ulp,
    ]);
    assert.deepEqual(await written("F16", 65519, -65519, 2 ** -25, 1.5 * 2 ** -24), [
      65504,
      -65504,
      0,
      2 ** -23,
    ]);
    for (const [dtype, value] of [["F16", 65520], ["F16", -1e30], ["BF16", 3.4e38]] as const) {
      await assert.rejects(written(dtype, 1, value), {
        name: "InputError",
        message: `save_dtype ${dtype.toLowerCase()} cannot hold ${Math.fround(value)}, a number of w.`,
      });
    }
    for (const value of [NaN, Infinity]) {
      await assert.rejects(written("BF16", 1, value), { name: "InputError", message: `w holds ${value}.` });
    }
  }));

Deno.test("writeModel() keeps what a model holds beside the text model that it wraps, and says that a head is its own", () =>
  inFolder(async (dir) => {
    const tensor = (
      name: string,
    ) => ({ name, shape: [1, 2], dtype: "BF16", data: fromF32(Float32Array.of(1, 2), "BF16") } as const);
    await writeSafetensors(`${dir}/model.safetensors`, [
      tensor("vision_tower.patch.weight"),
      tensor("multi_modal_projector.weight"),
      tensor("language_model.model.norm.weight"),
      tensor("language_model.lm_head.weight"),
      { name: "vision_tower.position_ids", shape: [1], dtype: "I64", data: new Uint8Array(8) },
    ]);
    await Deno.writeTextFile(
      `${dir}/config.json`,
      JSON.stringify({
        torch_dtype: "bfloat16",
        text_config: { dtype: "bfloat16", tie_word_embeddings: true },
      }),
    );
    const out = await Deno.makeTempDir({ dir });
    const weights = [source("model.language_model.norm.weight", 3, 4), source("lm_head.weight", 5, 6)];
    await writeModel(out, dir, weights, { dtype: "F32" });
    using checkpoint = await WeightFiles.open(out);
    assert.deepEqual(checkpoint.names().sort(), [
      "lm_head.weight",
      "model.language_model.norm.weight",
      "multi_modal_projector.weight",
      "vision_tower.patch.weight",
    ]);
    assert.deepEqual(await numbersOf(out, "vision_tower.patch.weight"), [1, 2]);
    assert.equal(checkpoint.info("vision_tower.patch.weight").dtype, "F32");
    assert.deepEqual(await readConfig(out), {
      torch_dtype: "float32",
      text_config: { dtype: "float32", tie_word_embeddings: false },
      tie_word_embeddings: false,
    });
  }));
