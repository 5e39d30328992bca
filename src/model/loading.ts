/** A model's weights on their way to the device. */
import type { Gpu, Tensor, TensorMemory } from "../gpu/mod.ts";
import { InputError } from "../errors.ts";
import { type Adapter, openAdapter, readAdapter } from "./adapter.ts";
import { adapterForm } from "./adapter_modules.ts";
import type { ModelConfig } from "./config.ts";
import {
  type DeclaredWeights,
  declareWeights,
  type LoadOptions,
  type StoredDtype,
  type WeightRun,
} from "./declared_weights.ts";
import { assembleDecoder, type Decoder, withLora, withSaved } from "./decoder.ts";
import { findNonFinite, FLOAT_BYTES } from "./dtype.ts";
import { weightSpecs } from "./modules.ts";
import type { Parameter } from "./parameters.ts";
import type { WeightFiles } from "./safetensors.ts";
import { HEAD_WEIGHT } from "./saved_modules.ts";
import { encodeWeights } from "./weight_formats.ts";
import { readDecoderRows, storedDtype } from "./weights.ts";

/** Bytes of one upload: the host never holds more of a weight than this. */
const UPLOAD_BYTES = 16 * 2 ** 20;
/** How far the reading of a model's weights has come, in bytes as the files have them. */
export interface LoadProgress {
  readonly bytes: number;
  readonly total_bytes: number;
}

/** Called before the first piece of the weights is read and after each; what it throws ends the loading. */
export type OnLoad = (progress: LoadProgress) => void;

/** Milliseconds of reading between two looks at the thread's messages. */
const READING_MS = 20;

/** A decoder whose weights are all frozen, or all trained. */
export interface LoadedDecoder extends Omit<DeclaredWeights, "weights"> {
  /** On the GPU until {@link free}. */
  readonly decoder: Decoder;
}

/**
 * Streams weight files to the GPU, whose queue may still be at it when this is done. Frozen matrices have the type that
 * {@link frozenDtype} says; trained weights become f32, since an update of 1e-6 would vanish in bf16.
 *
 * @throws {InputError} where a tensor is missing, of another shape or type, too large for the device's bindings, or
 * holds NaN or infinity
 * @throws {GpuMemoryError} where it does not fit
 * @throws what `onLoad` throws; the memory is given back
 */
export async function loadDecoder(
  gpu: Gpu,
  weightFiles: WeightFiles,
  config: ModelConfig,
  { onLoad, ...options }: LoadOptions & { readonly onLoad?: OnLoad },
): Promise<LoadedDecoder> {
  const stored: StoredDtype = (spec) => storedDtype(weightFiles, spec);
  const declared = await gpu.allocate(() => declareDecoder(gpu, config, stored, options));
  await uploadRuns(gpu, weightFiles, declared, onLoad);
  return declared;
}

/**
 * Fills declared weights from weight files, or from an adapter's file.
 *
 * @throws as {@link loadDecoder}; the memory is given back
 */
export async function uploadRuns(
  gpu: Gpu,
  weightFiles: WeightFiles,
  { runs, free }: Pick<DeclaredWeights, "runs" | "free">,
  onLoad?: OnLoad,
): Promise<void> {
  const total_bytes = [...runs.keys()].reduce((sum, run) => sum + storedBytes(run), 0);
  let [bytes, lastPause] = [0, performance.now()];
  const onPiece = async (length: number) => {
    if (performance.now() - lastPause > READING_MS) {
      await new Promise((resolve) => setTimeout(resolve, 0));
      lastPause = performance.now();
    }
    onLoad?.({ bytes: bytes += length, total_bytes });
  };
  try {
    onLoad?.({ bytes, total_bytes });
    for (const [run, { value }] of runs) await uploadRun(gpu, weightFiles, run, value, onPiece);
    gpu.check(); // not waited for: a fault that is still to come shows where something is read back
  } catch (error) {
    free();
    throw error;
  }
}

/**
 * Makes the tensors of a decoder, without its weights in them.
 *
 * @throws as {@link loadDecoder}; what was made is released
 */
export function declareDecoder(
  memory: TensorMemory,
  config: ModelConfig,
  stored: StoredDtype,
  options: LoadOptions,
): LoadedDecoder {
  const { weights, ...declared } = declareWeights(memory, weightSpecs(config), stored, options);
  const embedding = weights.get(`${config.plan.names.embedding}.weight`)!;
  return { decoder: assembleDecoder(config, new Map([[HEAD_WEIGHT, embedding], ...weights])), ...declared };
}

/**
 * The decoder with the adapter of a folder on it, to score with; it shares the base weights.
 *
 * @throws {InputError} where the adapter cannot be read or does not fit
 * @throws {GpuMemoryError} where it does not fit
 */
export async function loadAdapter(
  gpu: Gpu,
  decoder: Decoder,
  folder: string,
): Promise<Pick<LoadedDecoder, "decoder" | "free"> & { readonly warnings: readonly string[] }> {
  const adapter = await readAdapter(folder, decoder.config);
  using file = await openAdapter(folder);
  const stored: StoredDtype = (spec) => storedDtype(file, spec);
  const { saved, config, warnings = [] } = adapter;
  const { vocab_size = decoder.config.vocab_size } = adapter;
  const frozen = { trainable: false };
  const declared = await gpu.allocate(() => declareWeights(gpu, saved.weights, stored, frozen));
  await uploadRuns(gpu, file, declared);
  try {
    const factors = await uploadAdapter(gpu, adapter);
    const resized = { ...decoder, config: { ...decoder.config, vocab_size } };
    const base = withSaved(resized, declared.weights, saved);
    const scale = (path: string) => adapterForm(config, path).scale;
    return {
      decoder: withLora(base, (name) => factors.get(name), scale, 0),
      warnings,
      free: () => {
        declared.free();
        gpu.free(...[...factors.values()].map(({ value }) => value));
      },
    };
  } catch (error) {
    declared.free();
    throw error;
  }
}

/** Uploads an adapter as frozen tensors, for scoring. @throws {GpuMemoryError} where it does not fit */
export async function uploadAdapter(gpu: Gpu, adapter: Adapter): Promise<Map<string, Parameter>> {
  const factors = adapter.tensors.flatMap(({ module: { path, inputs, outputs }, a, b }) => [
    { name: `${path}.lora_A`, shape: [a.length / inputs, inputs], dtype: "f32" as const, data: a },
    { name: `${path}.lora_B`, shape: [outputs, b.length / outputs], dtype: "f32" as const, data: b },
  ]);
  const values = await gpu.tensors(factors);
  return new Map(factors.map(({ name, data }, i) => {
    const value = values[i]!;
    gpu.write(value, data);
    return [name, { name, value, gradient: null }];
  }));
}

/** Bytes of a run in the file. */
function storedBytes({ shape, stored }: WeightRun): number {
  return shape.reduce((product, size) => product * size, FLOAT_BYTES[stored]);
}

async function uploadRun(
  gpu: Gpu,
  weightFiles: WeightFiles,
  run: WeightRun,
  target: Tensor,
  onPiece: (bytes: number) => Promise<void>,
): Promise<void> {
  const { stored } = run;
  const [rows, columns = 1] = run.shape as [number, number?];
  const targetRowBytes = target.bytes / rows;
  const widest = Math.max(targetRowBytes, columns * FLOAT_BYTES[stored]);
  // whole loads of four bytes, whatever the row's length
  const step = Math.max(4, Math.floor(UPLOAD_BYTES / (widest * 4)) * 4);
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const bytes = await gpu.during(
      "weights",
      () => readDecoderRows(weightFiles, run.spec, run.first_row + row, count),
    );
    const bad = findNonFinite(bytes, stored);
    if (bad >= 0) {
      const place = [run.first_row + row + Math.floor(bad / columns), bad % columns];
      if (run.spec.transposed) place.reverse();
      const index = run.shape.length === 1 ? place[0] : place.join(", ");
      throw new InputError(`The weight ${run.spec.name} holds NaN or infinity at [${index}].`, {
        path: [run.spec.name],
        accepted: "finite weights",
      });
    }
    gpu.write(target, encodeWeights(bytes, stored, target.dtype), row * targetRowBytes);
    // a write is staged until the next submit: submit, so that the host never holds more than one piece
    gpu.device.queue.submit([]);
    await onPiece(bytes.length);
  }
}
