import { readGpuEnvironment, WEBGPU_BACKENDS } from "../config.ts";

/**
 * Environment variables for a process that is to use WebGPU.
 *
 * wgpu complains where XDG_RUNTIME_DIR, which it never writes to, is not set.
 */
export function gpuEnvironment(): Record<string, string> {
  return {
    DENO_WEBGPU_BACKEND: WEBGPU_BACKENDS,
    XDG_RUNTIME_DIR: readGpuEnvironment().runtimeDirectory ?? "/tmp",
  };
}
