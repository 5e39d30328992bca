import { readGpuEnvironment } from "../config.ts";

/**
 * Environment variables for a process that is to use WebGPU.
 *
 * Left to itself wgpu also takes OpenGL where Vulkan is missing (Mesa's EGL is on many machines without a Vulkan
 * driver): it answers like a device and has neither subgroups nor f16. And it complains where XDG_RUNTIME_DIR, which it
 * never writes to, is not set.
 */
export function gpuEnvironment(): Record<string, string> {
  return {
    DENO_WEBGPU_BACKEND: "vulkan,metal,dx12",
    XDG_RUNTIME_DIR: readGpuEnvironment().runtimeDirectory ?? "/tmp",
  };
}
