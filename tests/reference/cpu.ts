/**
 * Float64 reference implementations, forward and backward, of everything the worker computes on the GPU.
 *
 * They are the yardstick of the kernel tests, so they are written to be read: plain loops over flat row-major
 * arrays, no blocking, no sharing of code with `src/`. Inputs are flat arrays of any number type, outputs are
 * `Float64Array`s; gradients are checked by finite differences in `cpu_test.ts`.
 *
 * @module
 */
export * from "./linear.ts";
export * from "./layers.ts";
export * from "./attention.ts";
export * from "./head.ts";
export * from "./losses.ts";
export * from "./optimizer.ts";
export * from "./decoder.ts";
