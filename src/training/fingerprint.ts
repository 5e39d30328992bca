/** What tells the files that a run is made of from others. */
import { basename, join } from "node:path";
import { crc32 } from "node:zlib";
import { isObject } from "../json.ts";
import { exists, readJsonObject } from "../model/_files.ts";
import { crcOf, crcText, openToRead } from "../model/checksums.ts";
import { readTemplates } from "../preference/template_files.ts";
import type { Dataset, RowSource, TrainRequest } from "./request.ts";

/** Of a file: enough to notice that another is in its place, without reading a large one to its end. */
export interface FileFingerprint {
  readonly name: string;
  readonly bytes: number;
  /** When it was changed, in milliseconds; null where the file system does not tell. Copies differ in it alone. */
  readonly modified: number | null;
  /** CRC-32 of the whole file where it has at most 64 MiB; else of its safetensors header and of 64 blocks of 64 KiB. */
  readonly crc32: string;
}

/** Of everything that a run reads. */
export interface Fingerprints {
  /** The data set's files, then those of the evaluation; null where rows came with the request, or their files have gone. */
  readonly rows: readonly FileFingerprint[] | null;
  /** CRC-32 of the rows as tokens; null before they are. */
  readonly tokens: string | null;
  /** CRC-32 of the tokenizer's files without their chat templates. */
  readonly tokenizer: string;
  /** CRC-32 of the model's chat templates, and of the job's own. */
  readonly template: string;
  /** The model's configuration and weights. */
  readonly weights: readonly FileFingerprint[];
  /** CRC-32 of all weights as they were loaded; null where they were not, or by somebody else. */
  readonly loaded: string | null;
}

/** A file of at most as many bytes is read whole. */
export const WHOLE_BYTES = 64 * 2 ** 20;
const [BLOCKS, BLOCK_BYTES] = [64, 64 * 2 ** 10];
/** Of a header, which is 100 MB at most where it can be read at all. */
const MOST_HEADER_BYTES = 100_000_000;

type Between = () => Promise<void>;

/**
 * Looks at the files of a run as they are now.
 *
 * @param between called between two pieces of what is read; what it throws ends the reading
 * @throws {InputError} where one cannot be read
 */
export async function fingerprintsOf(
  { model, dataset, eval_dataset, settings }: Pick<
    TrainRequest,
    "model" | "dataset" | "eval_dataset" | "settings"
  >,
  between: Between,
): Promise<Fingerprints> {
  const prints = async (paths: readonly string[]) => {
    const found: FileFingerprint[] = [];
    for (const path of paths) found.push(await fingerprintOf(path, between));
    return found;
  };
  const rows = [...pathsOf(dataset), ...eval_dataset ? pathsOf(eval_dataset) : []];
  return {
    rows: rows.length === 0 ? null : await prints(rows),
    tokens: null,
    tokenizer: await tokenizerOf(model, between),
    template: await templateOf(model, settings.chat_template),
    weights: await prints(await weightFiles(model)),
    loaded: null,
  };
}

async function fingerprintOf(path: string, between: Between): Promise<FileFingerprint> {
  using file = await openToRead(path);
  const { size, mtime } = await file.stat();
  const sums: string[] = [];
  if (size <= WHOLE_BYTES) sums.push(await crcOf(file, 0, size, between));
  else {
    if (path.endsWith(".safetensors")) {
      sums.push(await crcOf(file, 0, await headerBytes(file, size), between));
    }
    for (let block = 0; block < BLOCKS; block++) {
      const begin = Math.floor(block * (size - BLOCK_BYTES) / (BLOCKS - 1));
      sums.push(await crcOf(file, begin, begin + BLOCK_BYTES, between));
    }
  }
  const sum = sums.length === 1 ? sums[0]! : crcText(crc32(sums.join()));
  return { name: basename(path), bytes: size, modified: mtime?.getTime() ?? null, crc32: sum };
}

/** Bytes of a safetensors file before its tensors. */
async function headerBytes(file: Deno.FsFile, size: number): Promise<number> {
  const length = new Uint8Array(8);
  await file.seek(0, Deno.SeekMode.Start);
  await file.read(length);
  const bytes = new DataView(length.buffer).getBigUint64(0, true);
  return Math.min(8 + Number(bytes), size, MOST_HEADER_BYTES);
}

function pathsOf(dataset: Dataset): string[] {
  return (Array.isArray(dataset) ? dataset as readonly RowSource[] : [dataset as RowSource]).flatMap(
    (source) => {
      if ("path" in source) return [source.path];
      if (!("paths" in source)) return [];
      return source.paths.flatMap((part) => typeof part === "string" ? [part] : part.files);
    },
  );
}

/** Files of a model's configuration and weights that are there. */
async function weightFiles(model: string): Promise<string[]> {
  const paths = [join(model, "config.json")];
  const single = join(model, "model.safetensors");
  const index = join(model, "model.safetensors.index.json");
  if (await exists(single)) paths.push(single);
  else if (await exists(index)) {
    const { weight_map } = await readJsonObject(index);
    const names = isObject(weight_map)
      ? Object.values(weight_map).filter((name) => typeof name === "string")
      : [];
    paths.push(index, ...[...new Set(names)].sort().map((name) => join(model, basename(name))));
  }
  const there = await Promise.all(paths.map(exists));
  return paths.filter((_, i) => there[i]); // what is missing is refused by who reads it
}

async function tokenizerOf(model: string, between: Between): Promise<string> {
  const sums: string[] = [];
  for (const name of ["tokenizer.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"]) {
    if (await exists(join(model, name))) {
      sums.push(name, (await fingerprintOf(join(model, name), between)).crc32);
    }
  }
  const config = join(model, "tokenizer_config.json");
  if (await exists(config)) {
    const { chat_template: _, ...others } = await readJsonObject(config);
    sums.push(JSON.stringify(others));
  }
  return crcText(crc32(sums.join()));
}

async function templateOf(model: string, own: string | null | undefined): Promise<string> {
  const templates = await readTemplates(model);
  return crcText(crc32(JSON.stringify([own ?? null, templates && [...templates]])));
}
