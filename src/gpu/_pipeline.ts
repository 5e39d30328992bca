import type { Kernel } from "./kernel.ts";

/** A compiled kernel. */
export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** Compiles a kernel, whose binding group's layout is the one that its text declares. */
export function compile(device: GPUDevice, { name: label, code, bindings }: Kernel): Pipeline {
  const layout = device.createBindGroupLayout({
    label,
    entries: bindings.map(({ index, access }) => ({
      binding: index,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: access === "read" ? "read-only-storage" : "storage" },
    })),
  });
  const pipeline = device.createComputePipeline({
    label,
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module: device.createShaderModule({ label, code }) },
  });
  return { pipeline, layout };
}
