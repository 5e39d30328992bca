/** How the linear layers of a frozen base may be held instead of as their file has them. */
export const QUANTIZATIONS = ["int8"] as const;

/** One of the {@link QUANTIZATIONS}. */
export type Quantization = typeof QUANTIZATIONS[number];
