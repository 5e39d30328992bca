import type { Tensor, TensorDtype, TensorSource } from "../../gpu/mod.ts";

/** The buffers of a pass by name, each made when it is first asked for: layers that name the same one share it. */
export class Buffers {
  readonly #made = new Map<string, Tensor>();

  /**
   * @param prefix of the names in the account
   * @param part what they are for, as the account has it
   */
  constructor(
    private readonly source: TensorSource,
    private readonly prefix: string,
    private readonly part: string,
  ) {}

  /** Largest number of bytes that one buffer may have. */
  get maxTensorBytes(): number {
    return this.source.maxTensorBytes;
  }

  /** @throws {GpuMemoryError} where it does not fit */
  f32(name: string, ...shape: readonly number[]): Tensor {
    return this.#tensor(name, shape, "f32");
  }

  /** As {@link f32}. */
  u32(name: string, ...shape: readonly number[]): Tensor {
    return this.#tensor(name, shape, "u32");
  }

  #tensor(name: string, shape: readonly number[], dtype: TensorDtype): Tensor {
    const made = this.#made.get(name) ??
      this.source.tensor(`${this.prefix}.${name}`, shape, dtype, this.part);
    if (made.shape.join() !== shape.join()) {
      throw new Error(`${made.name} is [${made.shape}], not [${shape}].`);
    }
    this.#made.set(name, made);
    return made;
  }
}
