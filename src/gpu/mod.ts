/** The GPU: device, buffers and their account, kernels and their cache. Knows nothing of models. */
export * from "./device.ts";
export * from "./kernel.ts";
export * from "./launch.ts";
export * from "./memory.ts";
export { largestTensor, PaperDevice } from "./paper_device.ts";
export * from "./policy.ts";
export * from "./program.ts";
export * from "./storage.ts";
export * from "./tensor.ts";
