import type { Tensor, TensorMemory } from "./tensor.ts";

/** Tensors that programs fill and read one after another: made with the first that needs one, freed with the last. */
export class Scratch {
  readonly #held = new Map<string, { readonly tensor: Tensor; users: number }>();

  constructor(private readonly memory: TensorMemory) {}

  /** The tensor of this name; its buffer is there while {@link take} holds it. */
  declare(name: string, count: number): Tensor {
    const held = this.#held;
    const shape = { name, offset: 0, bytes: 4 * count, shape: [count], dtype: "f32" } as const;
    return {
      ...shape,
      get buffer() {
        return held.get(name)!.tensor.buffer;
      },
    };
  }

  /** @throws {GpuMemoryError} where the memory limit would be passed */
  take({ name, shape }: Tensor): void {
    const held = this.#held.get(name) ??
      { tensor: this.memory.tensor(name, shape, "f32", "scratch"), users: 0 };
    held.users++;
    this.#held.set(name, held);
  }

  give({ name }: Tensor): void {
    const held = this.#held.get(name)!;
    if (--held.users > 0) return;
    this.#held.delete(name);
    this.memory.free(held.tensor);
  }
}
