/**
 * Asks WebGPU for a device and prints who answered as one line of JSON ({@linkcode GpuAnswer}). A process of its own,
 * because the Vulkan loader and its drivers are looked for once, at start.
 */
import type { GpuAnswer } from "./setup.ts";

const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
const device = await adapter?.requestDevice();
const answer: GpuAnswer = adapter && device
  ? {
    kind: adapter.info.isFallbackAdapter ? "software" : "gpu",
    name: adapter.info.description || adapter.info.vendor || "unnamed adapter",
  }
  : { kind: "none" };
device?.destroy();
console.log(JSON.stringify(answer));
