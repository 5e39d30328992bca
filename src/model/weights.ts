/** A model's weights by the decoder's names and in its orientation, however the file has them. */
import type { FloatDtype } from "./dtype.ts";
import { WeightFiles } from "./safetensors.ts";
import { holdsWeights } from "./weight_folder.ts";

/** A weight as a file holds it. */
export interface WeightSpec {
  readonly name: string;
  readonly shape: readonly [number] | readonly [number, number];
  /** Whether a matrix stands in files as [inputs, outputs], as GPT-2's Conv1D does; the decoder's is [outputs, inputs]. */
  readonly transposed: boolean;
  /** Whether it is the matrix of a block's linear layer. */
  readonly linear: boolean;
  /** Whether it is a table of the vocabulary, whose rows may lie in several tensors. */
  readonly table?: boolean;
  /** The weight that stands for it in a model's files: of a head that is tied, the embedding. */
  readonly tied_to?: string;
  /** Another weight that files may hold in its place: of an embedding that a head is tied to, the head. */
  readonly or?: string;
}

/** Shape of a weight in the decoder. */
export function decoderShape({ shape, transposed }: WeightSpec): readonly number[] {
  return transposed ? shape.toReversed() : shape;
}

/**
 * The name in these files, which may be an adapter's: files of a model without its head lack the first part
 * (`transformer.`, `model.`), and those of transformers 4 have a wrapped model's (`model.language_model.`) otherwise.
 */
export function storedName(
  weightFiles: WeightFiles,
  { name, tied_to, or }: Pick<WeightSpec, "name" | "tied_to" | "or">,
): string {
  const own = tied_to ?? name;
  const names = [
    ...spellings(name).map(adapterName),
    ...spellings(own),
    own.slice(own.indexOf(".") + 1),
    ...(or === undefined ? [] : spellings(or)),
  ];
  return names.find((each) => weightFiles.has(each)) ?? name;
}

/** A name as transformers 5 and as transformers 4 has it. */
export function spellings(name: string): [string, string] {
  if (name.startsWith("lm_head.")) return [name, `language_model.${name}`];
  return [name, name.replace(/^model\.language_model\./, "language_model.model.")];
}

/** What PEFT's adapters call a weight. */
export function adapterName(name: string): string {
  return `base_model.model.${name}`;
}

/** @throws {InputError} where the weight is missing, or of another shape or type */
export function storedDtype(weightFiles: WeightFiles, spec: WeightSpec): FloatDtype {
  return weightFiles.expect(storedName(weightFiles, spec), spec.shape).dtype;
}

/** The types of a folder's weights; bf16 where it holds none. @throws {InputError} where they are damaged */
export async function storedDtypes(directory: string): Promise<(spec: WeightSpec) => FloatDtype> {
  if (!await holdsWeights(directory)) return () => "BF16";
  // headers stay readable after the files are closed
  using weightFiles = await WeightFiles.open(directory);
  return (spec) => storedDtype(weightFiles, spec);
}

/** Most bytes of a file's rows that are held while they are turned. */
const STRIP_BYTES = 4 * 2 ** 20;

/** Some rows of a weight as the decoder has it. @returns their bytes, in the file's type */
export async function readDecoderRows(
  weightFiles: WeightFiles,
  spec: WeightSpec,
  first: number,
  count: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const { shape, transposed } = spec;
  const stored = storedName(weightFiles, spec);
  if (!transposed) return await weightFiles.readRows(stored, first, count);
  const [inputs, outputs = 1] = shape;
  const { begin, end } = weightFiles.info(stored);
  const elements = (end - begin) / (inputs * outputs) === 2 ? Uint16Array : Uint32Array;
  const rows = new elements(count * inputs);
  const step = Math.max(1, Math.floor(STRIP_BYTES / (outputs * elements.BYTES_PER_ELEMENT)));
  for (let top = 0; top < inputs; top += step) {
    const height = Math.min(step, inputs - top);
    const strip = new elements((await weightFiles.readRows(stored, top, height)).buffer);
    for (let row = 0; row < count; row++) {
      for (let i = 0; i < height; i++) rows[row * inputs + top + i] = strip[i * outputs + first + row]!;
    }
  }
  return new Uint8Array(rows.buffer);
}

/** A matrix of `columns` turned: [rows, columns] becomes [columns, rows]. */
export function transpose(values: Float32Array, columns: number): Float32Array<ArrayBuffer> {
  const rows = values.length / columns;
  const turned = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      turned[column * rows + row] = values[row * columns + column]!;
    }
  }
  return turned;
}
