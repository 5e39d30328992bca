/** One safetensors file: an 8-byte little-endian header length, a JSON header, then the tensors without a hole. */
import { basename } from "node:path";
import { isObject, show } from "../json.ts";
import { excessOf, type JsonBounds } from "../json_scan.ts";
import { fileError, missingFile, notAFile } from "./_files.ts";

/** A model's weights in one file, and where they are in several, in a folder as transformers writes it. */
export const [WEIGHTS_FILE, INDEX_FILE] = ["model.safetensors", "model.safetensors.index.json"] as const;

/** Bytes of an element, in the order in which the format's own library lays tensors of different types (wide last). */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  C64: 8,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;
/** Their names, in that order. */
export const DTYPES = Object.keys(DTYPE_BYTES);

/** Element types of the format whose elements are whole bytes. */
export type SafetensorsDtype = keyof typeof DTYPE_BYTES;

/** Where a tensor lies. */
export interface TensorInfo {
  readonly dtype: SafetensorsDtype;
  /** Row-major; [] is a scalar. */
  readonly shape: readonly number[];
  /** Absolute path of the file that holds it. */
  readonly file: string;
  /** First byte, counted from the file's start. */
  readonly begin: number;
  /** The byte after the last. */
  readonly end: number;
}

/** Tensors of a model: more than the most layers have. */
export const MOST_TENSORS = 30_000;
/** The format's own library takes more; all of a header is looked at while others wait. */
const MAX_HEADER_BYTES = 2 ** 24;
/** Of each tensor an object and two lists; notes beside them are texts. */
const HEADER: JsonBounds = {
  depth: 8,
  values: 20 * MOST_TENSORS,
  brackets: 4 * MOST_TENSORS,
  fields: MOST_TENSORS,
  allFields: 20 * MOST_TENSORS,
  names: 2 * MOST_TENSORS,
};

/** One opened file. */
export interface Shard {
  readonly path: string;
  readonly file: Deno.FsFile;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Bytes of a tensor. */
export function byteLength(dtype: SafetensorsDtype, shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype] as number);
}

/** Opens a file and checks its header in full. @throws InputError where it is missing or malformed */
export async function openShard(path: string): Promise<Shard> {
  let file: Deno.FsFile;
  try {
    // Looked at before it is opened: opening a named pipe would wait for its writer.
    const info = await Deno.stat(path);
    if (!info.isFile) throw notAFile(path, info);
    file = await Deno.open(path);
  } catch (error) {
    throw missingFile(path, error);
  }
  try {
    const { size } = await file.stat();
    return { path, file, ...readHeader(path, file, size) };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Reads and checks the header: the tensors must fill the file after it without overlap or hole. */
function readHeader(path: string, file: Deno.FsFile, size: number): Pick<Shard, "tensors" | "metadata"> {
  const name = basename(path);
  const refuse = (message: string, accepted: string, value?: unknown): never => {
    throw fileError(name, message, accepted, value);
  };
  if (size < 8) refuse(`has ${size} bytes, too few for a safetensors file`, "a whole safetensors file", size);
  const shard = { path, file };
  if (new TextDecoder().decode(readAt(shard, 0, 8)) === "version ") {
    refuse(
      "is a pointer of Git LFS and holds no weights: `git lfs pull` in its folder fetches them",
      "a whole safetensors file",
    );
  }
  const length = new DataView(readAt(shard, 0, 8).buffer).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES || length > size - 8) {
    const limit = Math.min(MAX_HEADER_BYTES, size - 8);
    refuse(
      `announces a header of ${length} bytes, but it can have at most ${limit}`,
      "a whole safetensors file",
      `${length}`,
    );
  }
  const start = 8 + Number(length);
  const bytes = readAt(shard, 8, start - 8);
  const excess = excessOf(bytes, HEADER);
  if (excess !== null) refuse(`has a header that ${excess}`, `at most ${MOST_TENSORS} tensors a file`);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    refuse("has a header that is not JSON", "a safetensors file");
  }
  if (!isObject(header)) return refuse("has a header that is no JSON object", "a safetensors file", header);

  const { __metadata__: metadata = {}, ...entries } = header;
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    refuse(`has a __metadata__ of ${show(metadata)}`, "an object of strings", metadata);
  }
  const tensors = Object.entries(entries).map(([tensor, entry]): [string, TensorInfo] => {
    const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
    if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype)) {
      return refuse(`gives ${tensor} the type ${show(dtype)}`, `one of ${DTYPES.join(", ")}`, dtype);
    }
    if (!isCounts(shape)) {
      return refuse(`gives ${tensor} the shape ${show(shape)}`, "a list of whole numbers >= 0", shape);
    }
    if (!isCounts(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
      return refuse(
        `gives ${tensor} the data_offsets ${show(offsets)}`,
        "two ascending whole numbers",
        offsets,
      );
    }
    const [begin, end] = offsets as [number, number];
    const bytes = byteLength(dtype as SafetensorsDtype, shape);
    if (end - begin !== bytes) {
      refuse(
        `gives ${tensor} ${end - begin} bytes, but ${dtype} [${shape}] takes ${bytes}`,
        "as many bytes as the shape takes",
        offsets,
      );
    }
    return [tensor, {
      dtype: dtype as SafetensorsDtype,
      shape,
      file: path,
      begin: start + begin,
      end: start + end,
    }];
  });

  tensors.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let [previous, place] = ["the header", start];
  for (const [tensor, { begin, end }] of tensors) {
    if (begin < place) {
      refuse(`has overlapping tensors: ${tensor} begins inside ${previous}`, "tensors one after another");
    }
    if (begin > place) {
      refuse(`has a hole of ${begin - place} bytes before ${tensor}`, "tensors one after another");
    }
    [previous, place] = [tensor, end];
  }
  if (place > size) {
    refuse(
      `is truncated: its tensors take ${place} bytes, but it has ${size}`,
      "a whole safetensors file",
      size,
    );
  }
  if (place < size) {
    refuse(`has ${size - place} bytes after its last tensor`, "a file that ends with its last tensor", size);
  }
  return { tensors: new Map(tensors), metadata: metadata as Record<string, string> };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0);
}

/** Reads a range. Synchronous, so that two readers cannot move each other's place in the file. */
export function readAt(
  { path, file }: Pick<Shard, "path" | "file">,
  begin: number,
  bytes: number,
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes);
  file.seekSync(begin, Deno.SeekMode.Start);
  for (let done = 0; done < bytes;) {
    const count = file.readSync(out.subarray(done));
    if (count === null) {
      throw fileError(basename(path), "has become shorter since it was opened", "a file at rest");
    }
    done += count;
  }
  return out;
}
