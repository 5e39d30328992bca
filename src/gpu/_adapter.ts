/** Finding an adapter, and learning what it is. */
import { DRIVER_THREADS } from "../config.ts";
import { InputError } from "../errors.ts";
import probeSource from "../../shaders/subgroup_probe.wgsl" with { type: "text" };

/** Whether a CPU does the work. */
export function isSoftware(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter ||
    /llvmpipe|lavapipe|swiftshader|basic render/i.test(`${info.device} ${info.description}`);
}

/**
 * Mesa's software driver gives each of its threads one equal run of a dispatch's workgroups, and the next dispatch waits
 * for the slowest: several threads a core even out what else the cores do.
 */
const THREADS_A_CORE = 4;

/** @throws {InputError} where no adapter of the wanted kind answers */
export async function requestAdapter(kind: "gpu" | "software" | "auto"): Promise<GPUAdapter> {
  const { state } = await Deno.permissions.query({ name: "env", variable: DRIVER_THREADS });
  if (state === "granted" && Deno.env.get(DRIVER_THREADS) === undefined) {
    Deno.env.set(DRIVER_THREADS, String(THREADS_A_CORE * navigator.hardwareConcurrency));
  }
  const software = kind !== "software"
    ? null
    : await navigator.gpu.requestAdapter({ forceFallbackAdapter: true });
  const adapter = software ?? await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    throw new InputError(
      "No GPU answers, nor the software driver that SIMPO_DEVICE=software runs on: install the GPU's driver, or that one " +
        "(on Debian: apt-get install libvulkan1 mesa-vulkan-drivers).",
      {
        path: ["SIMPO_DEVICE"],
        value: kind,
        accepted: "a machine with a Vulkan, Metal or Direct3D 12 driver",
        status: 503,
      },
    );
  }
  if (kind === "gpu" && isSoftware(adapter.info)) {
    throw new InputError(
      `No GPU answers: set SIMPO_DEVICE=software to run on the software driver (${adapter.info.description}), slowly.`,
      {
        path: ["SIMPO_DEVICE"],
        value: kind,
        accepted: "software, or a machine whose GPU driver works",
        status: 503,
      },
    );
  }
  return adapter;
}

/** All that an adapter or a device can do: a device has the least limits unless it asks for more. */
export function limitsOf({ limits: all }: Pick<GPUAdapter, "limits">): Record<string, number> {
  const limits: Record<string, number> = {};
  for (const name in all) {
    const value = (all as unknown as Record<string, unknown>)[name];
    if (typeof value === "number") limits[name] = value;
  }
  return limits;
}

/** WebGPU reports a range of subgroup sizes where it reports one at all; a kernel built for 8 lanes must know. */
export async function probeSubgroupSize(device: GPUDevice): Promise<number> {
  const out = device.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const back = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code: probeSource }) },
  });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: out } }],
    }),
  );
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, back, 0, 16);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(GPUMapMode.READ);
  const size = new Uint32Array(back.getMappedRange())[0]!;
  back.unmap();
  out.destroy();
  back.destroy();
  return size;
}
