import { isSoftware, limitsOf, probeSubgroupSize, requestAdapter } from "./_adapter.ts";
import { DeviceFaults } from "./_faults.ts";
import { compile, type Pipeline } from "./_pipeline.ts";
import { Readback, type ReadWords } from "./_readback.ts";
import { freeDeviceBytes } from "./device_memory.ts";
import type { Kernel } from "./kernel.ts";
import { GpuMemoryError, mebibytes, MemoryAccount } from "./memory.ts";
import { largestTensor, takeTensor, tensorOf } from "./paper_device.ts";
import { type KernelPolicy, policyFor } from "./policy.ts";
import { Scratch } from "./scratch.ts";
import type { TensorDtype } from "./storage.ts";
import { allocated, type Tensor, type TensorMemory } from "./tensor.ts";

/** Which device to open, and how. */
export interface GpuOptions {
  /** `auto` takes a GPU where one answers, else the software driver. */
  readonly device: "gpu" | "software" | "auto";
  /** Bytes of buffers that may be held at one time; without it 8 GiB on the software driver, unlimited on a GPU. */
  readonly memoryLimitBytes?: number;
  /** Kernels in the place of those that suit the device (tests, benchmarks). */
  readonly policy?: Partial<KernelPolicy>;
  /** Lowers {@link Gpu.maxTensorBytes} (tests). */
  readonly maxTensorBytes?: number;
}

/** What was found out about the adapter. */
export interface AdapterFacts {
  readonly info: GPUAdapterInfo;
  /** Whether a CPU does the work. */
  readonly software: boolean;
  /** Optional features that were granted. */
  readonly features: ReadonlySet<string>;
  /** Lanes of a subgroup; 0 where subgroups are not to be had. */
  readonly subgroupSize: number;
}

/** Optional features that kernels make use of; adapters hide some that devices grant, so they are asked for one set after another. */
const FEATURE_SETS = [["subgroups", "shader-f16", "timestamp-query"], ["subgroups", "timestamp-query"], [
  "timestamp-query",
], []];
const SOFTWARE_MEMORY_LIMIT = 8 * 2 ** 30;

/** A WebGPU device with its pipelines, its account of memory and its faults. */
export class Gpu implements TensorMemory {
  /** Bytes of buffers held, by name. */
  readonly memory: MemoryAccount;
  /** The kernels with which programs record from now on, unless they are given others. */
  policy: KernelPolicy;
  /** What programs put aside, one at a time. */
  readonly scratch: Scratch = new Scratch(this);
  /** Does what may hold the thread for long; whoever watches over the thread puts its own in place. */
  during: <T>(what: "device" | "compiling" | "weights", work: () => T) => T = (_, work) => work();
  /** Largest number of bytes one tensor may have, since it is bound whole. */
  readonly maxTensorBytes: number;
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #readback: Readback;
  readonly #faults: DeviceFaults;
  /** Whether tensors were let go of since the device was last waited for. */
  #letGo = false;

  /**
   * Opens a device with the adapter's own limits.
   *
   * @throws {InputError} where no adapter of the wanted kind answers
   */
  static async open(options: GpuOptions): Promise<Gpu> {
    let lastError: unknown;
    for (const features of FEATURE_SETS) {
      const adapter = await requestAdapter(options.device);
      try {
        const device = await adapter.requestDevice({
          requiredFeatures: features as GPUFeatureName[],
          requiredLimits: limitsOf(adapter),
        });
        const subgroupSize = features.includes("subgroups") ? await probeSubgroupSize(device) : 0;
        const { info } = adapter;
        const facts = { info, software: isSoftware(info), features: new Set(features), subgroupSize };
        return new Gpu(device, facts, options);
      } catch (error) {
        lastError = error;
      }
    }
    throw lastError;
  }

  private constructor(
    /** WebGPU's own device. */
    readonly device: GPUDevice,
    readonly adapter: AdapterFacts,
    options: GpuOptions,
  ) {
    this.memory = new MemoryAccount(
      options.memoryLimitBytes ?? (adapter.software ? SOFTWARE_MEMORY_LIMIT : Infinity),
    );
    this.policy = { ...policyFor(adapter), ...options.policy };
    this.maxTensorBytes = largestTensor(device.limits, options.maxTensorBytes);
    this.#readback = new Readback(device, (work) => this.#waitFor(work));
    this.#faults = new DeviceFaults(device);
  }

  /** What the device can do, by WebGPU's names. */
  get limits(): Record<string, number> {
    return limitsOf(this.device);
  }

  /** Whether a CPU does the work. */
  get software(): boolean {
    return this.adapter.software;
  }

  /**
   * Makes a zeroed tensor, accounted under its name.
   *
   * @throws {GpuMemoryError} where the memory limit would be passed
   * @throws {RangeError} where it is larger than {@link maxTensorBytes}, or its rows are no whole blocks of its format
   */
  tensor(name: string, shape: readonly number[], dtype: TensorDtype = "f32", part?: string): Tensor {
    const size = takeTensor(this, name, shape, dtype, part);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    return tensorOf(this.device.createBuffer({ label: name, size, usage }), name, shape, dtype, part);
  }

  /**
   * Makes tensors and waits for the driver's answer, since a buffer for which it has no room breaks only what uses it.
   *
   * @param make makes them at once, and runs no program with them
   * @returns what `make` returns
   * @throws {GpuMemoryError} where the memory limit would be passed or the driver has no room; all is let go of
   */
  async allocate<T extends { free(): void }>(make: () => T): Promise<T> {
    if (this.#letGo) await this.settle(); // what was let go of is free once the device has done with it
    this.device.pushErrorScope("validation"); // a write to what is not there
    this.device.pushErrorScope("out-of-memory");
    let made: T | undefined;
    let answers: [GPUError | null, GPUError | null];
    try {
      made = make();
    } finally {
      answers = await Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
    }
    const [noRoom, invalid] = answers;
    if (!noRoom && !invalid) return made;
    made.free();
    if (!noRoom) throw this.#faults.set(new Error(`GPU: ${invalid!.message}`));
    throw new GpuMemoryError(
      `The driver has no room for more (${noRoom.message}); ${mebibytes(this.memory.bytes)} are in use.`,
    );
  }

  /** Makes several tensors as {@link allocate} does. */
  async tensors(
    specs: readonly {
      readonly name: string;
      readonly shape: readonly number[];
      readonly dtype: TensorDtype;
    }[],
  ): Promise<Tensor[]> {
    const { made } = await this.allocate(() => {
      const made: Tensor[] = [];
      const free = () => this.free(...made);
      try {
        for (const { name, shape, dtype } of specs) made.push(this.tensor(name, shape, dtype));
      } catch (error) {
        free();
        throw error;
      }
      return { made, free };
    });
    return made;
  }

  /** Bytes that are left for buffers; null where no limit is set and the driver does not tell. */
  async freeBytes(): Promise<number | null> {
    const { limit, bytes } = this.memory;
    return limit < Infinity ? limit - bytes : await freeDeviceBytes(this.adapter.info);
  }

  /** Makes a tensor that holds `data`. @throws as {@link tensor}, and {RangeError} where `data` is larger */
  upload(name: string, shape: readonly number[], data: Float32Array | Uint32Array): Tensor {
    const tensor = this.tensor(name, shape, data instanceof Float32Array ? "f32" : "u32");
    this.write(tensor, data);
    return tensor;
  }

  /**
   * Queues a write of `data` into the tensor, `offset` bytes from its start.
   *
   * @throws {RangeError} where it does not fit
   */
  write(tensor: Tensor, data: ArrayBufferView, offset = 0): void {
    if (offset + data.byteLength > allocated(tensor.bytes)) {
      throw new RangeError(
        `${data.byteLength} bytes at ${offset} do not fit ${tensor.name} of ${tensor.bytes}.`,
      );
    }
    if (data.byteLength === 0) return;
    const whole = data.byteLength % 4 === 0 ? data : paddedToFour(data);
    this.device.queue.writeBuffer(
      tensor.buffer,
      tensor.offset + offset,
      whole.buffer as ArrayBuffer,
      whole.byteOffset,
      whole.byteLength,
    );
  }

  /** Lets go of the tensors' buffers; views made by {@link rowsOf} own none. */
  free(...tensors: readonly Tensor[]): void {
    this.#letGo ||= tensors.length > 0;
    for (const tensor of tensors) {
      this.memory.give(tensor.name, allocated(tensor.bytes), tensor.part);
      tensor.buffer.destroy();
    }
  }

  /** The kernel's pipeline on this device, compiled at its first use. */
  pipeline(kernel: Kernel): Pipeline {
    const made = this.#pipelines.get(kernel.code) ??
      this.during("compiling", () => compile(this.device, kernel));
    this.#pipelines.set(kernel.code, made);
    return made;
  }

  /**
   * Reads tensors back with one wait for all of them (a wait costs 10 ms or more however small the data).
   *
   * @returns a typed array each: that of the format's words
   * @throws the device's fault, if it had one
   */
  read(...tensors: readonly Tensor[]): Promise<ReadWords[]> {
    return this.#readback.read(tensors);
  }

  /** Reads one f32 tensor. */
  async readF32(tensor: Tensor): Promise<Float32Array> {
    return (await this.read(tensor))[0] as Float32Array;
  }

  /** Waits until the device has done all that was submitted. @throws the device's fault, if it had one */
  async settle(): Promise<void> {
    this.#letGo = false;
    await this.#waitFor(() => this.device.queue.onSubmittedWorkDone());
  }

  /** @param work begins the wait, which holds the thread until the device's queue is empty */
  async #waitFor(work: () => Promise<unknown>): Promise<void> {
    try {
      await this.during("device", work);
    } catch (error) {
      // A lost device breaks what waits for it a turn before it says that it is lost.
      await new Promise((resolve) => setTimeout(resolve, 0));
      this.check();
      throw error;
    }
    this.check();
  }

  /** @throws the device's first fault: createBuffer and dispatch themselves never throw */
  check(): void {
    this.#faults.check();
  }

  /** Lets go of the device with all its buffers. */
  close(): void {
    this.#faults.close();
    this.device.destroy();
  }
}

function paddedToFour(data: ArrayBufferView): Uint8Array {
  const padded = new Uint8Array(Math.ceil(data.byteLength / 4) * 4);
  padded.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return padded;
}
