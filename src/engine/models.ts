import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Gpu, withRoom } from "../gpu/mod.ts";
import { adapterScale, hasAdapter, readAdapter } from "../model/adapter.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import { type Decoder, loadDecoder, uploadAdapter, withLora } from "../model/decoder.ts";
import type { Parameter } from "../model/parameters.ts";
import { Checkpoint } from "../model/safetensors.ts";
import { loadTokenizer, type Tokenizer } from "../preference/tokenizer.ts";
import { Scorer } from "../scoring/scorer.ts";

/** A model's frozen weights on the GPU, shared by all that score with them or train an adapter on them. */
export interface BaseModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly decoder: Decoder;
  /** What the weights take. */
  readonly bytes: number;
}

/** Something on the GPU that stays there until nobody uses it and its room is needed. */
interface Held<T> {
  readonly loaded: Promise<T>;
  /** Whoever has a lease on it or waits for it to be loaded. */
  users: number;
  /** Set once it is loaded. */
  free: () => void;
}

/** In use until {@link Lease.release}. */
export interface Lease<T> {
  readonly value: T;
  release(): void;
}

/** Base models and scorers (of one with an adapter or without) that stay on the GPU while idle. */
const KEPT = 4;

/** Models and adapters on the GPU, the least recently used let go first. */
export class Models {
  readonly #gpu: Gpu;
  /** The last is the most recently used. */
  readonly #held = new Map<string, Held<unknown>>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /**
   * The model of a folder, loaded if it is not there or its files have changed.
   *
   * @throws {InputError} where the folder holds no model that can be used
   */
  async base(directory: string): Promise<Lease<BaseModel>> {
    return await this.#lease(`base ${await version(directory)}`, async () => {
      const config = await readModelConfig(directory);
      const tokenizer = await loadTokenizer(directory);
      using checkpoint = await Checkpoint.open(directory);
      const { decoder, bytes, free } = await loadDecoder(this.#gpu, checkpoint, config, { trainable: false });
      return { value: { config, tokenizer, decoder, bytes }, free };
    });
  }

  /** What a folder's weights take on the GPU already; 0 where they are not there. */
  async baseBytes(directory: string): Promise<number> {
    const held = this.#held.get(`base ${await version(directory)}`) as Held<BaseModel> | undefined;
    const base = await Promise.race([held?.loaded, null]).catch(() => null);
    return base?.bytes ?? 0;
  }

  /**
   * A scorer of a model, with PEFT's adapter or the full weights that `adapter` holds.
   *
   * @throws {InputError} where either cannot be used
   */
  async scorer(model: string, adapter: string | null): Promise<Lease<Scorer>> {
    if (adapter !== null && !await hasAdapter(adapter)) return await this.scorer(adapter, null);
    const key = `scorer ${await version(model)} ${adapter === null ? "" : await version(adapter)}`;
    return await this.#lease(key, async () => {
      const base = await this.base(model);
      try {
        const { config, tokenizer, decoder } = base.value;
        const lora = adapter === null ? null : await readAdapter(adapter, config);
        const parameters = lora ? await uploadAdapter(this.#gpu, lora) : new Map<string, Parameter>();
        const scale = lora ? adapterScale(lora.config) : 1;
        const adapted = lora ? withLora(decoder, (name) => parameters.get(name), scale, 0) : decoder;
        const scorer = new Scorer(this.#gpu, { config, tokenizer, decoder: adapted }, () => this.evict());
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
    return this.#trim(0);
  }

  async #lease<T>(key: string, load: () => Promise<{ value: T; free: () => void }>): Promise<Lease<T>> {
    const held = this.#held.get(key) as Held<T> | undefined ?? this.#load(load);
    this.#held.delete(key);
    this.#held.set(key, held);
    held.users++;
    try {
      const value = await held.loaded;
      this.#trim(KEPT);
      let released = false;
      return {
        value,
        release: () => {
          if (!released) held.users--;
          released = true;
        },
      };
    } catch (error) {
      if (this.#held.get(key) === held) this.#held.delete(key);
      throw error;
    }
  }

  #load<T>(load: () => Promise<{ value: T; free: () => void }>): Held<T> {
    const held: Held<T> = {
      users: 0,
      free: () => {},
      loaded: withRoom(() => this.evict(), load).then(({ value, free }) => {
        held.free = free;
        return value;
      }),
    };
    return held;
  }

  /** Lets go of idle ones, the least recently used first, until at most `kept` are left. */
  #trim(kept: number): boolean {
    const before = this.#held.size;
    // newest last: what a scorer was made of is older than the scorer, so a second round finds it idle
    for (let round = 0; round < 2; round++) {
      for (const [key, { users, free }] of this.#held) {
        if (this.#held.size <= kept) break;
        if (users > 0) continue;
        this.#held.delete(key);
        free();
      }
    }
    return this.#held.size < before;
  }
}

/** A folder's name with the sizes and times of its files, so that a folder written anew is loaded anew. */
async function version(directory: string): Promise<string> {
  const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name).catch(() => []);
  const files = names.sort().map(async (name) => {
    const { mtimeMs, size } = await stat(join(directory, name)).catch(() => ({ mtimeMs: 0, size: 0 }));
    return [name, mtimeMs, size];
  });
  return JSON.stringify([directory, ...await Promise.all(files)]);
}
