/** How weights of a file become tensors of the device. */
import { STORAGE, type TensorDtype } from "../gpu/mod.ts";
import { type FloatDtype, toF32 } from "./dtype.ts";
import { quantizeInt8 } from "./int8.ts";
import type { Quantization } from "./quantization.ts";
import { decoderShape, type WeightSpec } from "./weights.ts";

/** What makes the blocks of a format from finite elements of a file. */
const QUANTIZERS: Readonly<
  Record<Quantization, (bytes: Uint8Array, stored: FloatDtype) => Uint8Array<ArrayBuffer>>
> = { int8: quantizeInt8 };

/** The format that takes a file's bytes as they are. */
const OF_FILES = { F32: "f32", F16: "f16", BF16: "bf16" } as const satisfies Record<FloatDtype, TensorDtype>;

/**
 * The format of a frozen weight on the device. Linear layers of the blocks are quantised where that is asked for; other
 * matrices stay as their file has them. A format whose `row_multiple` the rows do not meet gives way.
 */
export function frozenDtype(
  spec: WeightSpec,
  stored: FloatDtype,
  quantization: Quantization | null,
): TensorDtype {
  const [, columns] = decoderShape(spec);
  const suits = (dtype: TensorDtype) => columns !== undefined && columns % STORAGE[dtype].row_multiple === 0;
  if (quantization && spec.linear && suits(quantization)) return quantization;
  return suits(OF_FILES[stored]) ? OF_FILES[stored] : "f32";
}

/** Elements of a file in the format that they have on the device. */
export function encodeWeights(bytes: Uint8Array, stored: FloatDtype, dtype: TensorDtype): ArrayBufferView {
  if (dtype in QUANTIZERS) return QUANTIZERS[dtype as Quantization](bytes, stored);
  return dtype === OF_FILES[stored] ? bytes : toF32(bytes, stored);
}
