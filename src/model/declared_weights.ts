/** Weights on the device before their numbers are there. */
import { OwnedTensors, tensorBytes, type TensorDtype, type TensorMemory } from "../gpu/mod.ts";
import { InputError } from "../errors.ts";
import type { TableRun, WeightTables } from "./decoder.ts";
import type { FloatDtype } from "./dtype.ts";
import { type Parameter, type ParameterSpec, TrainedParameters } from "./parameters.ts";
import type { Quantization } from "./quantization.ts";
import { frozenDtype } from "./weight_formats.ts";
import { decoderShape, type WeightSpec } from "./weights.ts";

/** Runs begin at multiples of this, so that parts of them can be bound. */
const RUN_ROWS = 64;

/** How a decoder is held. */
export interface LoadOptions {
  /** Whether all weights are trained; they are frozen otherwise. */
  readonly trainable: boolean;
  /** How frozen linear layers are held; null, as where nothing is said: as the file has them. */
  readonly quantization?: Quantization | null;
}

/** The type that a weight has in its file. @throws {InputError} where it is missing, or of another shape or type */
export type StoredDtype = (spec: WeightSpec) => FloatDtype;

/** Some rows of one weight, which fit one binding. */
export interface WeightRun {
  readonly spec: WeightSpec;
  /** The weight's name, with `#n` behind it from the second run on. */
  readonly name: string;
  readonly first_row: number;
  readonly shape: readonly number[];
  /** Type in the file. */
  readonly stored: FloatDtype;
  /** Type on the GPU. */
  readonly dtype: TensorDtype;
}

/** Some weights without their numbers. */
export interface DeclaredWeights {
  readonly weights: WeightTables;
  readonly runs: ReadonlyMap<WeightRun, Parameter>;
  /** null where the weights are frozen. */
  readonly trained: TrainedParameters | null;
  /** Bytes of the frozen weights. */
  readonly bytes: number;
  /** Releases all weights. */
  free(): void;
}

/**
 * Makes the tensors of weights, without their numbers in them.
 *
 * @param beside What is trained together with them
 * @throws {InputError} where one is missing, of another shape or type, or too large for the device's bindings
 * @throws {GpuMemoryError} where they do not fit; what was made is released
 */
export function declareWeights(
  memory: TensorMemory,
  specs: readonly WeightSpec[],
  stored: StoredDtype,
  { trainable, quantization = null }: LoadOptions,
  beside: readonly ParameterSpec[] = [],
): DeclaredWeights {
  const runs = specs.flatMap((spec) => {
    const from = stored(spec);
    const dtype = trainable ? "f32" : frozenDtype(spec, from, quantization);
    return splitRows(spec, from, dtype, memory.maxTensorBytes);
  });
  const ofRuns = runs.map(({ name, shape }) => ({ name, shape, decay: shape.length === 2 }));
  const trained = trainable ? new TrainedParameters(memory, [...beside, ...ofRuns]) : null;
  const frozen = new OwnedTensors(memory);
  const free = () => {
    trained?.free();
    frozen.free();
  };
  try {
    const parameters = new Map(runs.map((run) => {
      const { name, shape, dtype } = run;
      return [
        run,
        trained?.get(name) ?? { name, value: frozen.tensor(name, shape, dtype, "weights"), gradient: null },
      ];
    }));
    const weights = new Map<string, TableRun[]>(specs.map(({ name }) => [name, []]));
    for (const [{ spec, first_row }, rows] of parameters) weights.get(spec.name)!.push({ first_row, rows });
    return { weights, trained, bytes: frozen.bytes, runs: parameters, free };
  } catch (error) {
    free();
    throw error;
  }
}

/** @throws {InputError} for a matrix that fits no binding; of the vocabulary's tables a part does. */
function splitRows(spec: WeightSpec, stored: FloatDtype, dtype: TensorDtype, maxBytes: number): WeightRun[] {
  const { name } = spec;
  const shape = decoderShape(spec);
  const [rows, columns = 1] = shape as [number, number?];
  const rowBytes = tensorBytes([columns], dtype);
  if (rows * rowBytes <= maxBytes) return [{ spec, name, first_row: 0, shape, stored, dtype }];
  const height = Math.floor(maxBytes / rowBytes / RUN_ROWS) * RUN_ROWS;
  if (height === 0 || !spec.table) {
    throw new InputError(
      `The weight ${name} [${shape}] takes ${
        rows * rowBytes
      } bytes as ${dtype}, more than a tensor may have here.`,
      { path: [name], value: rows * rowBytes, accepted: `at most ${maxBytes} bytes on this device` },
    );
  }
  return Array.from({ length: Math.ceil(rows / height) }, (_, i) => ({
    spec,
    name: i === 0 ? name : `${name}#${i}`,
    first_row: i * height,
    shape: [Math.min(height, rows - i * height), columns],
    stored,
    dtype,
  }));
}
