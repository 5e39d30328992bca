import type { Gpu } from "./device.ts";
import type { Kernel } from "./kernel.ts";
import { type Launch, sizedLaunch } from "./launch.ts";
import { tensorOf } from "./paper_device.ts";
import type { KernelPolicy } from "./policy.ts";
import type { Tensor, Tensors } from "./tensor.ts";

/** Numbers that change from run to run: live tokens, rows, the step. */
export type Live = Readonly<Record<string, number>>;

/** A dispatch of one run, by its kernel's name. */
export interface Dispatch {
  readonly kernel: string;
  readonly params: Launch["params"];
}

/** A dispatch with the time that the device took for it. */
export interface TimedDispatch extends Dispatch {
  readonly milliseconds: number;
}

interface RecordedDispatch<L extends Live> {
  readonly kind: "dispatch";
  readonly kernel: Kernel;
  readonly bindings: Tensors;
  readonly launch: (live: L) => Launch;
}

type Command<L extends Live> = RecordedDispatch<L> | { readonly kind: "clear"; readonly tensor: Tensor };

/**
 * A recorded sequence of dispatches over fixed tensors, replayed with other live numbers: pipelines, bind groups and the
 * buffer of parameters are made once, a run costs about a microsecond of host time a dispatch.
 *
 * @example Double two of three numbers
 * ```ts
 * import assert from "node:assert/strict";
 * import { defineKernel, Gpu, Program } from "./mod.ts";
 * const double = defineKernel({
 *   name: "double",
 *   source: `
 *     struct Params { count: u32 }
 *     @group(0) @binding(0) var<storage, read> params: Params;
 *     @group(0) @binding(1) var<storage, read> x: array<f32>;
 *     @group(0) @binding(2) var<storage, read_write> y: array<f32>;
 *     @compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
 *       if (id.x < params.count) { y[id.x] = 2.0 * x[id.x]; }
 *     }`,
 * });
 * const gpu = await Gpu.open({ device: "auto" });
 * const [x, y] = [gpu.upload("x", [3], Float32Array.of(1, 2, 3)), gpu.tensor("y", [3])];
 * const program = new Program<{ count: number }>(gpu, "double");
 * program.dispatch(double, { x, y }, ({ count }) => ({ params: { count }, invocations: count }));
 * program.run({ count: 2 });
 * assert.deepEqual([...await gpu.readF32(y)], [2, 4, 0]);
 * gpu.close();
 * ```
 */
export class Program<L extends Live = Live> {
  readonly #commands: Command<L>[] = [];
  readonly #scratch = new Map<string, Tensor>();
  #prepared: Prepared | null = null;

  /** @param policy the device's own unless given */
  constructor(
    readonly gpu: Gpu,
    readonly label: string,
    /** Which kernels operations record. */
    readonly policy: KernelPolicy = gpu.policy,
  ) {}

  /**
   * Records one dispatch; `bindings` names every tensor of the shader but `params`.
   *
   * @throws {TypeError} where names or types of elements are not those that the shader declares
   */
  dispatch(kernel: Kernel, bindings: Tensors, launch: (live: L) => Launch): void {
    const wanted = kernel.bindings.filter(({ name }) => name !== "params");
    const [names, given] = [wanted.map(({ name }) => name).sort(), Object.keys(bindings).sort()];
    if (names.join() !== given.join()) throw new TypeError(`${kernel.name} binds ${names}; given: ${given}.`);
    for (const { name, element } of wanted) {
      const { name: of, dtype } = bindings[name]!;
      const expected = name === "b" && kernel.storage ? kernel.storage.dtype : element;
      if (dtype !== expected) {
        throw new TypeError(`${kernel.name} binds ${name} of ${expected}; ${of} is ${dtype}.`);
      }
    }
    this.#commands.push({ kind: "dispatch", kernel, bindings, launch });
    this.free();
  }

  /** An f32 tensor for what one operation puts aside until its next dispatch; all programs of the device share it. */
  scratch(name: string, count: number): Tensor {
    const tensor = this.#scratch.get(name) ?? this.gpu.scratch.declare(`scratch.${name}`, count);
    this.#scratch.set(name, tensor);
    return tensor;
  }

  /** What its dispatches run, each once, by their first use. */
  get kernels(): Kernel[] {
    const all = this.#commands.flatMap((command) => command.kind === "dispatch" ? [command.kernel] : []);
    return [...new Set(all)];
  }

  /** Records the zeroing of a tensor. */
  clear(tensor: Tensor): void {
    this.#commands.push({ kind: "clear", tensor });
    this.free();
  }

  /** Submits all commands, in order, with these live numbers. */
  run(live: L): void {
    this.#submit(live);
  }

  #submit(
    live: L,
    stamp?: (dispatch: Dispatch) => GPUComputePassTimestampWrites,
    last?: (encoder: GPUCommandEncoder) => void,
  ): void {
    const gpu = this.gpu;
    const prepared = this.#prepared ??= this.#prepare();
    const encoder = gpu.device.createCommandEncoder({ label: this.label });
    let pass: GPUComputePassEncoder | null = null;
    this.#commands.forEach((command, i) => {
      if (command.kind === "clear") {
        pass?.end();
        pass = null;
        encoder.clearBuffer(
          command.tensor.buffer,
          command.tensor.offset,
          Math.ceil(command.tensor.bytes / 4) * 4,
        );
        return;
      }
      const { params, workgroups } = sizedLaunch(command.kernel, command.launch(live));
      if (workgroups.includes(0)) return;
      const slot = prepared.slots[i]!;
      for (const [f, field] of command.kernel.params.entries()) {
        const value = params[field.name];
        if (value === undefined) {
          throw new TypeError(`${command.kernel.name} needs the parameter ${field.name}.`);
        }
        if (setParam(prepared.view, slot.offset + 4 * f, field.type, value)) prepared.changed = true;
      }
      if (stamp) pass?.end();
      if (stamp || !pass) {
        pass = encoder.beginComputePass({
          label: this.label,
          ...(stamp && { timestampWrites: stamp({ kernel: command.kernel.name, params }) }),
        });
      }
      pass.setPipeline(slot.pipeline);
      pass.setBindGroup(0, slot.bindGroup);
      pass.dispatchWorkgroups(...workgroups);
    });
    (pass as GPUComputePassEncoder | null)?.end();
    last?.(encoder);
    if (prepared.changed && prepared.params) {
      gpu.device.queue.writeBuffer(prepared.params, 0, prepared.view.buffer as ArrayBuffer);
      prepared.changed = false;
    }
    gpu.device.queue.submit([encoder.finish()]);
  }

  /** What {@link run} would dispatch with these live numbers, in order. */
  dispatches(live: L): Dispatch[] {
    return this.#commands.flatMap((command) => {
      if (command.kind === "clear") return [];
      const { params, workgroups } = sizedLaunch(command.kernel, command.launch(live));
      return workgroups.includes(0) ? [] : { kernel: command.kernel.name, params };
    });
  }

  /**
   * Runs as {@link run} does, each dispatch in a pass of its own between two timestamps.
   *
   * @throws where the device has no timestamp queries
   */
  async profile(live: L): Promise<TimedDispatch[]> {
    const { device } = this.gpu;
    const count = 2 * this.dispatches(live).length;
    if (count === 0) return [];
    const querySet = device.createQuerySet({ type: "timestamp", count });
    const usage = GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC;
    const times = tensorOf(device.createBuffer({ size: 8 * count, usage }), "times", [2 * count], "u32");
    const dispatches: Dispatch[] = [];
    this.#submit(live, (dispatch) => {
      const at = 2 * dispatches.push(dispatch) - 2;
      return { querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
    }, (encoder) => encoder.resolveQuerySet(querySet, 0, count, times.buffer, 0));
    const [words] = await this.gpu.read(times);
    const stamps = new BigUint64Array(words!.buffer);
    times.buffer.destroy();
    querySet.destroy();
    return dispatches.map((dispatch, i) => ({
      ...dispatch,
      milliseconds: Number(stamps[2 * i + 1]! - stamps[2 * i]!) / 1e6,
    }));
  }

  /** Frees parameters and scratch until the next run; the other tensors belong to their makers. */
  free(): void {
    this.#prepared?.owned.dispose();
    this.#prepared = null;
  }

  #prepare(): Prepared {
    const { device, memory, scratch } = this.gpu;
    const alignment = Math.max(64, device.limits.minStorageBufferOffsetAlignment);
    let size = 0;
    const offsets = this.#commands.map((command) => {
      const offset = size;
      if (command.kind === "dispatch") {
        size += Math.ceil(command.kernel.params.length * 4 / alignment) * alignment;
      }
      return offset;
    });
    using made = new DisposableStack();
    let params: GPUBuffer | null = null;
    if (size > 0) {
      const label = `${this.label}.params`;
      memory.take(label, size);
      made.defer(() => memory.give(label, size));
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
      params = made.adopt(device.createBuffer({ label, size, usage }), (buffer) => buffer.destroy());
    }
    for (const tensor of this.#scratch.values()) {
      scratch.take(tensor);
      made.defer(() => scratch.give(tensor));
    }
    const slots = this.#commands.map((command, i) => {
      if (command.kind === "clear") return null;
      const { kernel, bindings } = command;
      const { pipeline, layout } = this.gpu.pipeline(kernel);
      const bindGroup = device.createBindGroup({
        label: kernel.name,
        layout,
        entries: kernel.bindings.map(({ index, name }) => {
          if (name === "params") {
            return {
              binding: index,
              resource: { buffer: params!, offset: offsets[i]!, size: kernel.params.length * 4 },
            };
          }
          const { buffer, offset, bytes } = bindings[name]!;
          const size = Math.min(Math.ceil(bytes / 16) * 16, buffer.size - offset);
          return { binding: index, resource: { buffer, offset, size } };
        }),
      });
      return { pipeline, bindGroup, offset: offsets[i]! };
    });
    return { owned: made.move(), params, view: new DataView(new ArrayBuffer(size)), changed: false, slots };
  }
}

interface Prepared {
  readonly owned: DisposableStack;
  readonly params: GPUBuffer | null;
  readonly view: DataView;
  /** Whether `view` holds what `params` does not; it outlives a run that was refused halfway. */
  changed: boolean;
  readonly slots:
    readonly ({ pipeline: GPUComputePipeline; bindGroup: GPUBindGroup; offset: number } | null)[];
}

/** @returns whether the stored value changed */
function setParam(view: DataView, offset: number, type: "u32" | "i32" | "f32", value: number): boolean {
  const before = view.getUint32(offset, true);
  if (type === "f32") view.setFloat32(offset, value, true);
  else if (type === "u32") view.setUint32(offset, value, true);
  else view.setInt32(offset, value, true);
  return view.getUint32(offset, true) !== before;
}
