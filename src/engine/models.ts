import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Gpu, GpuMemoryError } from "../gpu/mod.ts";
import { hasAdapter, readAdapter } from "../model/adapter.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import { type Decoder, loadDecoder, uploadAdapter, withLora } from "../model/decoder.ts";
import { Checkpoint } from "../model/safetensors.ts";
import { loadTokenizer, type Tokenizer } from "../preference/tokenizer.ts";
import { Scorer } from "../scoring/scorer.ts";

/** A model's frozen weights on the GPU, shared by all that score with them or train an adapter on them. */
export interface BaseModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly decoder: Decoder;
}

/** Something on the GPU that stays there until nobody uses it and its room is needed. */
interface Held<T> {
  readonly value: T;
  readonly free: () => void;
  users: number;
}

/** In use until {@link Lease.release}. */
export interface Lease<T> {
  readonly value: T;
  release(): void;
}

/** Base models, and scorers (with an adapter or without), that stay on the GPU while idle. */
const KEPT = { models: 2, scorers: 4 };

/** Models and adapters on the GPU, the least recently used let go first. */
export class Models {
  readonly #gpu: Gpu;
  readonly #models = new Map<string, Held<BaseModel>>();
  readonly #scorers = new Map<string, Held<Scorer>>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /**
   * The model of a folder, loaded if it is not there or its files have changed.
   *
   * @throws {InputError} where the folder holds no model that can be used
   */
  base(directory: string): Promise<Lease<BaseModel>> {
    return this.#lease(this.#models, KEPT.models, directory, async () => {
      const config = await readModelConfig(directory);
      const tokenizer = await loadTokenizer(directory);
      using checkpoint = await Checkpoint.open(directory);
      const { decoder, free } = await loadDecoder(this.#gpu, checkpoint, config, { trainable: false });
      return { value: { config, tokenizer, decoder }, free };
    });
  }

  /**
   * A scorer of a model, with PEFT's adapter or the full weights that `adapter` holds.
   *
   * @throws {InputError} where either cannot be used
   */
  async scorer(model: string, adapter: string | null): Promise<Lease<Scorer>> {
    if (adapter !== null && !await hasAdapter(adapter)) return await this.scorer(adapter, null);
    const key = adapter === null ? model : `${model}\n${adapter}`;
    return await this.#lease(this.#scorers, KEPT.scorers, key, async () => {
      const base = await this.base(model);
      try {
        const { config, tokenizer, decoder } = base.value;
        if (adapter === null) {
          const scorer = new Scorer(this.#gpu, base.value);
          return { value: scorer, free: () => (scorer.free(), base.release()) };
        }
        const lora = await readAdapter(adapter, config);
        const parameters = uploadAdapter(this.#gpu, lora);
        const scale = lora.config.lora_alpha / lora.config.r;
        const adapted = withLora(decoder, (name) => parameters.get(name), scale, 0);
        const scorer = new Scorer(this.#gpu, { config, tokenizer, decoder: adapted });
        const free = () => {
          scorer.free();
          this.#gpu.free(...[...parameters.values()].map(({ value }) => value));
          base.release();
        };
        return { value: scorer, free };
      } catch (error) {
        base.release();
        throw error;
      }
    });
  }

  /** Lets go of everything that nobody uses. @returns whether there was anything */
  evict(): boolean {
    const before = this.#models.size + this.#scorers.size;
    trim(this.#scorers, 0);
    trim(this.#models, 0);
    return this.#models.size + this.#scorers.size < before;
  }

  async #lease<T>(
    held: Map<string, Held<T>>,
    kept: number,
    directories: string,
    load: () => Promise<{ value: T; free: () => void }>,
  ): Promise<Lease<T>> {
    const key = await withVersion(directories);
    let entry = held.get(key);
    held.delete(key);
    if (!entry) {
      const loaded = await load().catch((error) => {
        // once more with the idle ones gone
        if (error instanceof GpuMemoryError && this.evict()) return load();
        throw error;
      });
      entry = { ...loaded, users: 0 };
    }
    held.set(key, entry); // the last of the map is the most recently used
    entry.users++;
    trim(held, kept);
    const lent = entry;
    let released = false;
    return {
      value: lent.value,
      release: () => {
        if (!released) lent.users--;
        released = true;
      },
    };
  }
}

function trim<T>(held: Map<string, Held<T>>, kept: number): void {
  for (const [key, entry] of held) {
    if (held.size <= kept) return;
    if (entry.users > 0) continue;
    held.delete(key);
    entry.free();
  }
}

/** The folders' names with the times of their files, so that a folder written anew is loaded anew. */
async function withVersion(directories: string): Promise<string> {
  const files = [
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
  ];
  const versions = directories.split("\n").flatMap((directory) =>
    files.map(async (file) => {
      const { mtimeMs, size } = await stat(join(directory, file)).catch(() => ({ mtimeMs: 0, size: 0 }));
      return `${mtimeMs}/${size}`;
    })
  );
  return [directories, ...await Promise.all(versions)].join("\n");
}
