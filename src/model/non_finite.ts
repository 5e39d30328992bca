import { InputError } from "../errors.ts";
import { findNonFinite, fromF32 } from "./dtype.ts";

/** NaN or infinity among the numbers of a tensor that is to be kept. */
export class NonFiniteError extends InputError {
  constructor(readonly tensor: string, readonly number: number) {
    super(`${tensor} holds ${number}.`, { path: [tensor], accepted: "finite numbers" });
  }
}

/** Looks at a tensor's numbers. @throws {NonFiniteError} at the first that is not finite */
export function checkFinite(tensor: string, values: Float32Array): void {
  const bad = findNonFinite(fromF32(values, "F32"), "F32");
  if (bad !== -1) throw new NonFiniteError(tensor, values[bad]!);
}
