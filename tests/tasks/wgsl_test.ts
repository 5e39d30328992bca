import assert from "node:assert/strict";
import { indented } from "../../tasks/_indented.ts";
import { expandedKernels } from "../../tasks/wgsl.ts";

Deno.test("expandedKernels() has the kernels of every kind of device, without directives", async () => {
  const kernels = await expandedKernels();
  const names = ["attention", "attention_tiled", "adamw", "simpo", "matmul_tiled_NN_f32_64x64"];
  for (const name of [...names, "matmul_subgroup_NT_f32_32x8", "matmul_direct_NT_f32_16x16"]) {
    assert.ok(kernels.has(name), name);
  }
  for (const [name, texts] of kernels) {
    assert.equal(new Set(texts).size, texts.length, name);
    for (const text of texts) assert.doesNotMatch(text, /@if|@else|@unroll|\$|\/\//, name);
  }
});

Deno.test("indented() takes over what directives leave behind", () => {
  const text = "fn f(\n a: u32,\n) {\n      if (a > 1u) {\n\n\n\na++; // {\n  }\n\n}\n";
  assert.equal(indented(text), "fn f(\n  a: u32,\n) {\n  if (a > 1u) {\n\n    a++; // {\n  }\n\n}\n");
});
