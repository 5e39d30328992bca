import { type Gpu, withRoom } from "../gpu/mod.ts";
import { hasAdapter } from "../model/adapter.ts";
import { readModelConfig } from "../model/config.ts";
import type { Decoder } from "../model/decoder.ts";
import { folderVersion } from "../model/folder_version.ts";
import { loadAdapter, loadDecoder, type OnLoad } from "../model/loading.ts";
import type { Quantization } from "../model/quantization.ts";
import { WeightFiles } from "../model/safetensors.ts";
import type { BatchOptions } from "../scoring/batches.ts";
import type { ScoringWeights } from "../scoring/request.ts";
import { Scorer } from "../scoring/scorer.ts";

/** A model's frozen weights on the GPU, shared by all that score with them or train an adapter on them. */
export interface BaseModel {
  readonly decoder: Decoder;
  /** What the weights take. */
  readonly bytes: number;
  /** CRC-32 of the weights as they were read; null where whoever had them loaded did not ask for it. */
  readonly checksum: string | null;
}

/** Something on the GPU that stays there until nobody uses it and its room is needed. */
interface Held<T> {
  readonly loaded: Promise<T>;
  /** Of those that wait for it to be loaded; one that throws waits no longer. */
  readonly watchers: Set<OnLoad>;
  /** Whoever has a lease on it or waits for it to be loaded. */
  users: number;
  /** Set once it is loaded. */
  free: () => void;
  /** Evicts what it does not need while it is used. @returns whether there was anything */
  shrink: () => boolean;
}

/** What {@link Held} is made of. */
type Loaded<T> = { readonly value: T } & Pick<Held<T>, "free"> & Partial<Pick<Held<T>, "shrink">>;

/** Loads something, and tells `watch` between two pieces, which may throw to end it. */
type Load<T> = (watch: OnLoad) => Promise<Loaded<T>>;

/** In use until {@link Lease.release}. */
export interface Lease<T> {
  readonly value: T;
  release(): void;
}

/** What repeated prompts may take where the user does not say. */
const PROMPT_CACHE_BYTES = { software: 64 * 2 ** 20, gpu: 256 * 2 ** 20 };
/** Base models and scorers (of one with an adapter or without) that stay on the GPU while idle. */
const KEPT = 4;

/** Who is told of what is loaded. */
export interface LoadingReport {
  /** A folder's weights begin to be read. @returns is called as they are */
  weights(folder: string): OnLoad;
  /** Something in a folder's files is not heeded. */
  warning(folder: string, message: string): void;
}

/** Nobody waits any longer for what is being loaded. */
class Unwanted extends Error {}

/** Models and adapters on the GPU, the least recently used let go first. */
export class Models {
  /** The last is the most recently used. */
  readonly #held = new Map<string, Held<unknown>>();

  /**
   * @param report is told of every loading, whoever waits for it
   * @param promptCacheBytes of each scorer, as BatchOptions has it; the device decides unless given
   * @param takeBatch of each scorer, as BatchOptions has it
   */
  constructor(
    private readonly gpu: Gpu,
    private readonly report: LoadingReport,
    private readonly promptCacheBytes = PROMPT_CACHE_BYTES[gpu.software ? "software" : "gpu"],
    private readonly takeBatch?: BatchOptions["takeBatch"],
  ) {}

  /**
   * The model of a folder, loaded if it is not there or its files have changed. Whoever asks while it is being loaded
   * waits for the same loading, which ends early once nobody waits for it.
   *
   * @param onLoad called between two pieces of the weights; may throw to wait no longer
   * @param sum whether what is read is summed, which a GB takes 0.3 s for
   * @throws {InputError} where the folder holds no model that can be used
   * @throws what `onLoad` throws
   */
  async base(
    directory: string,
    quantization: Quantization | null,
    onLoad: OnLoad,
    sum = false,
  ): Promise<Lease<BaseModel>> {
    const key = `base ${quantization} ${folderVersion(directory)}`;
    return await this.#lease(key, onLoad, async (watch) => {
      const config = await readModelConfig(directory);
      using checkpoint = await WeightFiles.open(directory);
      if (sum) await checkpoint.startSums();
      for (const warning of config.warnings) this.report.warning(directory, warning);
      const report = this.report.weights(directory);
      const { decoder, bytes, free } = await loadDecoder(this.gpu, checkpoint, config, {
        trainable: false,
        quantization,
        onLoad: (progress) => {
          report(progress);
          watch(progress);
        },
      });
      return { value: { decoder, bytes, checksum: checkpoint.checksum }, free };
    });
  }

  /** What a folder's weights take on the GPU already; 0 where they are not there. */
  async baseBytes(directory: string, quantization: Quantization | null): Promise<number> {
    const held = this.#held.get(`base ${quantization} ${folderVersion(directory)}`) as
      | Held<BaseModel>
      | undefined;
    const base = await Promise.race([held?.loaded, null]).catch(() => null);
    return base?.bytes ?? 0;
  }

  /**
   * A scorer of a model, with PEFT's adapter or the full weights that `adapter` holds.
   *
   * @param onLoad as {@link base}
   * @throws {InputError} where either cannot be used
   */
  async scorer({ model, adapter, quantization }: ScoringWeights, onLoad: OnLoad): Promise<Lease<Scorer>> {
    if (adapter !== null && !await hasAdapter(adapter)) {
      return await this.scorer({ model: adapter, adapter: null, quantization }, onLoad);
    }
    const files = `${folderVersion(model)} ${adapter === null ? "" : folderVersion(adapter)}`;
    return await this.#lease(`scorer ${quantization} ${files}`, onLoad, async (watch) => {
      const base = await this.base(model, quantization, watch);
      try {
        const adapted = adapter === null ? null : await loadAdapter(this.gpu, base.value.decoder, adapter);
        for (const warning of adapted?.warnings ?? []) this.report.warning(adapter!, warning);
        const decoder = adapted?.decoder ?? base.value.decoder;
        const scorer = new Scorer(this.gpu, decoder, {
          promptCacheBytes: this.promptCacheBytes,
          makeRoom: () => this.evict(),
          ...(this.takeBatch && { takeBatch: this.takeBatch }),
        });
        const free = () => {
          scorer.free();
          adapted?.free();
          base.release();
        };
        return { value: scorer, free, shrink: () => scorer.shrink() };
      } catch (error) {
        base.release();
        throw error;
      }
    });
  }

  /** Lets go of everything that nobody uses or that can be done without. @returns whether there was anything */
  evict(): boolean {
    const trimmed = this.#trim(0);
    const shrunk = [...this.#held.values()].map(({ shrink }) => shrink());
    return trimmed || shrunk.includes(true);
  }

  async #lease<T>(key: string, onLoad: OnLoad, load: Load<T>): Promise<Lease<T>> {
    const held = this.#held.get(key) as Held<T> | undefined ?? this.#load(key, load);
    this.#held.delete(key);
    this.#held.set(key, held);
    held.users++;
    const gone = Promise.withResolvers<never>();
    const watcher: OnLoad = (progress) => {
      try {
        onLoad(progress);
      } catch (error) {
        held.watchers.delete(watcher);
        gone.reject(error);
      }
    };
    held.watchers.add(watcher);
    try {
      const value = await Promise.race([held.loaded, gone.promise]);
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
      held.users--;
      throw error;
    } finally {
      held.watchers.delete(watcher);
    }
  }

  #load<T>(key: string, load: Load<T>): Held<T> {
    const watchers = new Set<OnLoad>();
    const forget = () => {
      if (this.#held.get(key) === held) this.#held.delete(key);
    };
    const watch: OnLoad = (progress) => {
      for (const watcher of watchers) watcher(progress);
      if (watchers.size > 0) return;
      forget(); // before anybody else can come to wait for it
      throw new Unwanted("Nobody waits for this model.");
    };
    const held: Held<T> = {
      watchers,
      users: 0,
      free: () => {},
      shrink: () => false,
      loaded: withRoom(() => this.evict(), () => load(watch)).then(({ value, free, shrink }) => {
        held.free = free;
        if (shrink) held.shrink = shrink;
        return value;
      }),
    };
    held.loaded.catch(forget);
    return held;
  }

  /** Evicts idle ones, the least recently used first, until at most `kept` are left. */
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
