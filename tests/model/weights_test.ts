import assert from "node:assert/strict";
import { fromF32 } from "../../src/model/dtype.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { writeSafetensors } from "../../src/model/safetensors_writer.ts";
import {
  decoderShape,
  readDecoderRows,
  storedDtype,
  storedName,
  transpose,
  type WeightSpec,
} from "../../src/model/weights.ts";

/** Opens a file with one matrix whose elements are their places, as far as f16 tells them apart. */
async function withMatrix(
  name: string,
  shape: readonly [number, number],
  dtype: "F32" | "F16",
  test: (checkpoint: WeightFiles, values: Float32Array) => Promise<void>,
): Promise<void> {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  try {
    const values = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => i % 2039);
    await writeSafetensors(path, [{ name, dtype, shape, data: fromF32(values, dtype) }]);
    using checkpoint = await WeightFiles.openFile(path);
    await test(checkpoint, values);
  } finally {
    await Deno.remove(path);
  }
}

for (const dtype of ["F32", "F16"] as const) {
  for (const [inputs, outputs] of [[5, 3], [2311, 1009]] as const) {
    Deno.test(`readDecoderRows() turns parts of a file's [${inputs}, ${outputs}] in ${dtype}`, async () => {
      const spec: WeightSpec = { name: "h.w", shape: [inputs, outputs], transposed: true, linear: true };
      assert.deepEqual(decoderShape(spec), [outputs, inputs]);
      await withMatrix(spec.name, spec.shape as [number, number], dtype, async (checkpoint, values) => {
        const turned = transpose(values, outputs);
        for (const [first, count] of [[0, outputs], [1, 2], [outputs - 1, 1]] as const) {
          const rows = turned.slice(first * inputs, (first + count) * inputs);
          assert.deepEqual(await readDecoderRows(checkpoint, spec, first, count), fromF32(rows, dtype));
        }
      });
    });
  }
}

Deno.test("storedName() finds a weight without its name's first part, where it is not there with it", async () => {
  await withMatrix("h.w", [2, 2], "F32", (checkpoint) => {
    assert.equal(storedName(checkpoint, { name: "transformer.h.w" }), "h.w");
    assert.equal(storedName(checkpoint, { name: "h.w" }), "h.w");
    assert.equal(storedName(checkpoint, { name: "transformer.h.v" }), "transformer.h.v");
    const missing = { name: "transformer.h.v", shape: [2, 2], transposed: false, linear: true } as const;
    assert.throws(() => storedDtype(checkpoint, missing), {
      name: "InputError",
      message: /transformer\.h\.v/,
    });
    return Promise.resolve();
  });
});

Deno.test("transpose() turns a matrix", () => {
  assert.deepEqual(transpose(Float32Array.of(1, 2, 3, 4, 5, 6), 3), Float32Array.of(1, 4, 2, 5, 3, 6));
});
