import type { Kernel } from "./kernel.ts";

interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** A device's compiled kernels, by their text. */
export class Pipelines {
  readonly #device: GPUDevice;
  readonly #made = new Map<string, Pipeline>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** @param compiling compiles a kernel that is not known */
  get({ name, code, bindings }: Kernel, compiling: <T>(work: () => T) => T): Pipeline {
    const known = this.#made.get(code);
    if (known) return known;
    const layout = this.#device.createBindGroupLayout({
      label: name,
      entries: bindings.map(({ index, access }) => ({
        binding: index,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: access === "read" ? "read-only-storage" : "storage" },
      })),
    });
    const pipeline = compiling(() =>
      this.#device.createComputePipeline({
        label: name,
        layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module: this.#device.createShaderModule({ label: name, code }) },
      })
    );
    const made = { pipeline, layout };
    this.#made.set(code, made);
    return made;
  }
}
