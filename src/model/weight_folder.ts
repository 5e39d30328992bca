/** The weights of a model folder: one safetensors file, or the shards that an index names. */
import { basename, join } from "node:path";
import { InputError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { exists, readJsonObject } from "./_files.ts";
import {
  INDEX_FILE,
  MOST_TENSORS,
  openShard,
  type Shard,
  type TensorInfo,
  WEIGHTS_FILE,
} from "./_safetensors_file.ts";

/** Opened files, and which tensor is where in them. */
export interface OpenedWeights {
  readonly shards: readonly Shard[];
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/**
 * Opens a model folder: `model.safetensors`, or else the shards that `model.safetensors.index.json` names.
 *
 * @throws {InputError} where neither is there or anything in them is malformed
 */
export async function openWeights(dir: string): Promise<OpenedWeights> {
  const single = join(dir, WEIGHTS_FILE);
  if (await exists(single)) return await openFile(single);
  if (await exists(join(dir, INDEX_FILE))) return await openShards(dir);
  throw new InputError(
    `${basename(dir)} holds neither ${WEIGHTS_FILE} nor ${INDEX_FILE}${await otherWeights(dir)}.`,
    {
      path: [{ file: WEIGHTS_FILE }],
      accepted:
        "weights as safetensors under transformers' names, as save_pretrained(folder) of transformers writes them",
    },
  );
}

/** Opens one safetensors file. @throws {InputError} where it is missing or malformed */
export async function openFile(path: string): Promise<OpenedWeights> {
  const shard = await openShard(path);
  return { shards: [shard], tensors: shard.tensors };
}

/** Whether a model folder has its weights, or an index of them with every shard. */
export async function holdsWeights(dir: string): Promise<boolean> {
  if (await exists(join(dir, WEIGHTS_FILE))) return true;
  const index = join(dir, INDEX_FILE);
  if (!await exists(index)) return false;
  const { weight_map } = await readJsonObject(index);
  const files = isObject(weight_map) ? new Set(Object.values(weight_map)) : [];
  for (const file of files) if (typeof file === "string" && !await exists(join(dir, file))) return false;
  return true;
}

/** Files that hold a model's weights otherwise: pickled by torch, for llama.cpp, under their author's own names. */
const OTHER_WEIGHTS = /^(pytorch_model\S*\.bin|\S+\.gguf|consolidated\S*\.(safetensors|pth))$/;

/** What a folder without safetensors holds instead, as the end of a sentence. */
async function otherWeights(dir: string): Promise<string> {
  const names = await Array.fromAsync(Deno.readDir(dir), ({ name }) => name).catch(() => []);
  const other = names.filter((name) => OTHER_WEIGHTS.test(name)).sort()[0];
  return other === undefined ? "" : `, but ${other}, which must be converted first`;
}

/** Files of one model, of which each stays open. */
const MOST_SHARDS = 1000;

/** Reads and checks the index, opens every shard it names and checks that each tensor is where it says. */
async function openShards(dir: string): Promise<OpenedWeights> {
  const { weight_map } = await readJsonObject(join(dir, INDEX_FILE));
  const refuse = (message: string, value: unknown, accepted: string): never => {
    throw new InputError((field) => `${field} ${message}`, {
      path: [{ file: INDEX_FILE }, "weight_map"],
      value,
      accepted,
    });
  };
  if (!isObject(weight_map) || Object.keys(weight_map).length === 0) {
    return refuse(`is ${show(weight_map)}.`, weight_map, "an object from tensor names to file names");
  }
  const files = new Set(Object.values(weight_map)).size;
  if (files > MOST_SHARDS) refuse(`names ${files} files.`, files, `at most ${MOST_SHARDS} files`);
  const shards = new Map<string, Shard>();
  const tensors = new Map<string, TensorInfo>();
  let held = 0;
  try {
    for (const [name, file] of Object.entries(weight_map)) {
      if (typeof file !== "string" || !/^[^/\\\0]+$/.test(file) || file === "." || file === "..") {
        return refuse(
          `puts ${show(name)} into ${show(file)}.`,
          file,
          "the name of a file in the model's folder",
        );
      }
      let shard = shards.get(file);
      if (shard === undefined) {
        if (!await exists(join(dir, file))) {
          refuse(`names the shard ${show(file)}, which is missing.`, file, "a file that is there");
        }
        shard = await openShard(join(dir, file));
        shards.set(file, shard);
        held += shard.tensors.size;
        if (held > MOST_TENSORS) {
          refuse(`names files of more than ${MOST_TENSORS} tensors.`, held, "files of fewer");
        }
      }
      const info = shard.tensors.get(name) ??
        refuse(
          `puts ${show(name)} into ${show(file)}, which does not hold it.`,
          name,
          "a tensor that the shard holds",
        );
      tensors.set(name, info);
    }
    // A shard's tensors that the index does not name are left alone, as transformers does.
    return { shards: [...shards.values()], tensors };
  } catch (error) {
    for (const { file } of shards.values()) file.close();
    throw error;
  }
}
