import type { Gpu, Tensor } from "../gpu/mod.ts";
import { checkFinite } from "../model/non_finite.ts";
import type { TrainedParameters } from "../model/parameters.ts";
import { fromF32 } from "../model/dtype.ts";
import { transpose, type WeightSpec } from "../model/weights.ts";

/** A trained weight's numbers as its file has them in order, a piece at a time. */
export async function* valuesOf(
  gpu: Gpu,
  { name, transposed }: WeightSpec,
  trained: TrainedParameters,
): AsyncGenerator<Float32Array> {
  if (transposed) {
    const { value } = trained.get(name);
    yield transpose(await gpu.readF32(value), value.shape[1]!);
    return;
  }
  const runs = [...trained.parameters.values()].filter((run) => run.name.split("#")[0] === name);
  for (const { value } of runs) {
    for (const piece of pieces(value)) yield await gpu.readF32(piece);
  }
}

/** The same in f32, as bytes. @throws {NonFiniteError} where a number is none */
export async function* bytesOf(
  name: string,
  values: AsyncIterable<Float32Array>,
): AsyncGenerator<Uint8Array> {
  for await (const each of values) {
    checkFinite(name, each);
    yield fromF32(each, "F32");
  }
}

const PIECE_BYTES = 16 * 2 ** 20;

export function* pieces(tensor: Tensor): Generator<Tensor> {
  for (let at = 0; at < tensor.bytes; at += PIECE_BYTES) {
    yield { ...tensor, offset: tensor.offset + at, bytes: Math.min(PIECE_BYTES, tensor.bytes - at) };
  }
}
