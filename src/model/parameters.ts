import { OwnedTensors, type Tensor, type TensorMemory } from "../gpu/mod.ts";

/** A weight, with the tensor that collects its gradient where it is trained. */
export interface Parameter {
  /** The weight's name in its file, or its module's path with `.lora_A` or `.lora_B`. */
  readonly name: string;
  readonly value: Tensor;
  /** Of the value's shape; null where it is frozen. */
  readonly gradient: Tensor | null;
}

/** What a trained parameter is called and how large it is. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** Whether weight decay applies: to matrices, not to norms. */
  readonly decay: boolean;
}

/** Trained parameters that lie side by side, so that one dispatch updates all of them. */
export interface ParameterSegment {
  /** Elements, gaps included. */
  readonly count: number;
  /** Whether weight decay applies to all of them. */
  readonly decay: boolean;
  /** [count], as are the following. */
  readonly value: Tensor;
  readonly gradient: Tensor;
  /** AdamW's first moment. */
  readonly mean: Tensor;
  /** AdamW's second moment. */
  readonly variance: Tensor;
}

const ALIGNMENT = 64; // elements: binding offsets are multiples of 256 bytes

/**
 * All trained parameters in a few large buffers, each with its gradient and AdamW moments at the same place. Gaps
 * between parameters stay zero throughout.
 */
export class TrainedParameters {
  /** Matrices first, then what does not decay. */
  readonly segments: readonly ParameterSegment[];
  readonly #tensors: OwnedTensors;
  readonly #parameters = new Map<string, Parameter>();

  /**
   * @throws {RangeError} where one parameter alone is larger than a binding
   * @throws {GpuMemoryError} where they do not fit
   */
  constructor(memory: TensorMemory, specs: readonly ParameterSpec[]) {
    this.#tensors = new OwnedTensors(memory);
    try {
      this.segments = this.#segments(specs);
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /** Trained parameters by name, in the order of the segments. */
  get parameters(): ReadonlyMap<string, Parameter> {
    return this.#parameters;
  }

  /** @throws {RangeError} where the name is not trained */
  get(name: string): Parameter {
    const parameter = this.#parameters.get(name);
    if (!parameter) throw new RangeError(`${name} is not among the trained parameters.`);
    return parameter;
  }

  /** Releases values, gradients and moments. */
  free(): void {
    this.#tensors.free();
  }

  #segments(specs: readonly ParameterSpec[]): ParameterSegment[] {
    const limit = Math.floor(this.#tensors.maxTensorBytes / 4 / ALIGNMENT) * ALIGNMENT;
    const segments: ParameterSegment[] = [];
    for (const decay of [true, false]) {
      let members: { spec: ParameterSpec; start: number; count: number }[] = [];
      let filled = 0;
      const close = () => {
        if (members.length > 0) segments.push(this.#segment(segments.length, decay, filled, members));
        members = [];
        filled = 0;
      };
      for (const spec of specs.filter((spec) => spec.decay === decay)) {
        const count = spec.shape.reduce((product, size) => product * size, 1);
        if (filled + count > limit) close();
        members.push({ spec, start: filled, count });
        filled += Math.ceil(count / ALIGNMENT) * ALIGNMENT;
      }
      close();
    }
    return segments;
  }

  #segment(
    index: number,
    decay: boolean,
    count: number,
    members: readonly { spec: ParameterSpec; start: number; count: number }[],
  ): ParameterSegment {
    const make = (name: string, part: string) =>
      this.#tensors.tensor(`trained.${index}.${name}`, [count], "f32", part);
    const segment = {
      count,
      decay,
      value: make("value", "parameters"),
      gradient: make("gradient", "gradients"),
      mean: make("mean", "moments"),
      variance: make("variance", "moments"),
    };
    for (const { spec, start, count } of members) {
      const view = (whole: Tensor): Tensor => ({
        ...whole,
        name: spec.name,
        offset: start * 4,
        bytes: count * 4,
        shape: spec.shape,
      });
      this.#parameters.set(spec.name, {
        name: spec.name,
        value: view(segment.value),
        gradient: view(segment.gradient),
      });
    }
    return segment;
  }
}
