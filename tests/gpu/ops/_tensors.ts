/** Tensors with a few rows past the live ones, to see that kernels neither read nor write there. */
import assert from "node:assert/strict";
import { Gpu, type Tensor } from "../../../src/gpu/mod.ts";

/** What outputs hold where nothing was written. */
export const UNTOUCHED = 777;
const SPARE_ROWS = 3;

/** A device for each layout of the kernels that reduce along rows. */
export async function openBothLayouts(): Promise<Gpu[]> {
  return [
    await Gpu.open({ device: "auto", policy: { row_lanes: 1 } }),
    await Gpu.open({ device: "auto", policy: { row_lanes: 64 } }),
  ];
}

/** An input of `values`, [rows, columns]; the rows behind them hold NaN, or indices far outside. */
export function input(gpu: Gpu, values: Float32Array | Uint32Array, columns: number): Tensor {
  return padded(gpu, values, columns, values instanceof Uint32Array ? 4_000_000_000 : NaN);
}

/** An output of `rows` live rows, which holds `before`, or {@link UNTOUCHED} as all rows behind them do. */
export function output(gpu: Gpu, rows: number, columns: number, before?: Float32Array): Tensor {
  return padded(gpu, before ?? new Float32Array(rows * columns).fill(UNTOUCHED), columns, UNTOUCHED);
}

function padded(gpu: Gpu, values: Float32Array | Uint32Array, columns: number, behind: number): Tensor {
  const spare = SPARE_ROWS * columns;
  const all = values instanceof Uint32Array
    ? new Uint32Array(values.length + spare)
    : new Float32Array(values.length + spare);
  all.set(values);
  all.fill(behind, values.length);
  return gpu.upload("test", [all.length / columns, columns], all);
}

/** Reads the live rows of outputs and checks that those behind them are untouched. */
export async function readLive(gpu: Gpu, ...outputs: Tensor[]): Promise<Float32Array[]> {
  const read = await gpu.read(...outputs) as Float32Array[];
  return read.map((all, i) => {
    const live = all.length - SPARE_ROWS * outputs[i]!.shape[1]!;
    assert.ok(
      all.subarray(live).every((value) => value === UNTOUCHED),
      "rows past the live ones are untouched",
    );
    return all.subarray(0, live);
  });
}
