/** Whole weights of a job in shards, as `GET /train/{id}/adapter` sends them. */
import assert from "node:assert/strict";
import { unpackTar } from "modern-tar";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createApp } from "../../routes/app.ts";
import { exportMerged } from "../../src/model/export.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { testService } from "../helpers/service.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const FIXTURE = fileURLToPath(new URL("../fixtures/peft_adapter", import.meta.url));
const MAX_SHARD_BYTES = 1000;

Deno.test("GET /train/{id}/adapter?format=merged sends large weights in shards with their index, and WeightFiles reads them", async () => {
  await using service = await testService();
  const { root } = service;
  const config = JSON.parse(await Deno.readTextFile(join(FIXTURE, "config.json")));
  const model = await writeTinyModel(join(root, "model"), { config, dtype: "BF16" });
  const { id } = (await service.post("/train", { model: "model", dataset: { path: "rows.jsonl" } })).body;
  await service.until(id, "succeeded");
  const result = join(root, "state", "jobs", id, "result");
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    await Deno.copyFile(join(FIXTURE, name), join(result, name));
  }
  const app = createApp({
    ...service.service,
    exportMerged: (model, adapter, out, _signal, dtype) =>
      exportMerged(model, adapter, out, { dtype, maxShardBytes: MAX_SHARD_BYTES }),
  });
  const response = await app.request(`/train/${id}/adapter?format=merged`);
  assert.equal(response.status, 200, response.status === 200 ? "" : await response.text());
  const files = new Map(
    (await unpackTar(await response.bytes())).map(({ header, data }) => [header.name, data!]),
  );
  const merged = join(root, "merged");
  await Deno.mkdir(merged);
  for (const [name, data] of files) await Deno.writeFile(join(merged, name), data);

  const index = JSON.parse(await Deno.readTextFile(join(merged, "model.safetensors.index.json")));
  const shards = [...files.keys()].filter((name) => name.endsWith(".safetensors"));
  assert.ok(shards.length > 2);
  const number = (n: number) => String(n).padStart(5, "0");
  assert.deepEqual(
    shards,
    shards.map((_, i) => `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`),
  );
  assert.deepEqual(new Set(Object.values(index.weight_map)), new Set(shards));
  assert.deepEqual(Object.keys(index.weight_map), Object.keys(index.weight_map).sort());

  const whole = join(root, "whole");
  await exportMerged(model, result, whole);
  using expected = await WeightFiles.open(whole);
  using found = await WeightFiles.open(merged);
  assert.equal(found.metadata["format"], "pt");
  assert.deepEqual(found.names().sort(), expected.names().sort());
  let bytes = 0;
  for (const name of expected.names()) {
    const tensor = await found.read(name);
    assert.deepEqual(tensor, await expected.read(name), name);
    bytes += tensor.length;
  }
  assert.deepEqual(index.metadata, { total_size: bytes });
  for (const shard of shards) {
    using file = await WeightFiles.openFile(join(merged, shard));
    const sizes = file.names().map((name) => file.info(name).end - file.info(name).begin);
    assert.ok(sizes.length === 1 || sizes.reduce((sum, size) => sum + size) <= MAX_SHARD_BYTES, shard);
  }
});
