import { AssertionError } from "node:assert";

/** What {@link assertClose} allows. */
export interface Tolerance {
  /** Relative tolerance; measured against what `relativeTo` says. */
  readonly rtol: number;
  /** Absolute tolerance added to the relative one; 0 unless given. */
  readonly atol?: number;
  /**
   * `tensor` (the default): |actual - expected| <= atol + rtol · max|expected| for every element, the measure for
   * gradients, whose small elements are differences of large ones. `element`: rtol · |expected| of that element.
   */
  readonly relativeTo?: "tensor" | "element";
  /** Named in the message. */
  readonly name?: string;
  /** Shape of the tensor; the message then gives the worst element's coordinates too. */
  readonly shape?: readonly number[];
}

/** The worst element of a comparison. */
export interface Deviation {
  readonly index: number;
  readonly actual: number;
  readonly expected: number;
  /** |actual - expected| */
  readonly absolute: number;
  /** The absolute deviation over the largest |expected| of the tensor. */
  readonly relativeToTensor: number;
  /** The absolute deviation over |expected| of this element. */
  readonly relativeToElement: number;
}

/**
 * Finds the element that deviates most, against the tensor's or its own magnitude. A NaN on either side counts as
 * infinitely wrong.
 */
export function worstDeviation(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  relativeTo: "tensor" | "element" = "tensor",
  atol = 0,
): Deviation {
  let largest = 0;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(expected[i]!));
  let worst = 0;
  let worstMeasure = -1;
  for (let i = 0; i < expected.length; i++) {
    const absolute = Math.abs(actual[i]! - expected[i]!);
    const reference = relativeTo === "tensor" ? largest : Math.abs(expected[i]!);
    const excess = Math.max(0, absolute - atol);
    const measure = Number.isNaN(absolute) ? Infinity : excess === 0 ? 0 : excess / reference;
    if (measure > worstMeasure) [worst, worstMeasure] = [i, measure];
  }
  const [a, e] = [actual[worst] ?? NaN, expected[worst] ?? NaN];
  const absolute = Math.abs(a - e);
  return {
    index: worst,
    actual: a,
    expected: e,
    absolute,
    relativeToTensor: absolute === 0 ? 0 : absolute / largest,
    relativeToElement: absolute === 0 ? 0 : absolute / Math.abs(e),
  };
}

/**
 * Asserts that two flat tensors agree, and reports the worst element where they do not.
 *
 * @returns the worst deviation, for tests that print or compare it
 * @throws AssertionError where lengths differ, where an element is NaN, or past the tolerance
 */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { rtol, atol = 0, relativeTo = "tensor", name = "tensor", shape }: Tolerance,
): Deviation {
  if (actual.length !== expected.length) {
    throw new AssertionError({ message: `${name}: ${actual.length} values instead of ${expected.length}` });
  }
  const worst = worstDeviation(actual, expected, relativeTo, atol);
  if (expected.length === 0) return worst;
  let largest = Math.abs(worst.expected);
  if (relativeTo === "tensor") {
    for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(expected[i]!));
  }
  // Written so that NaN fails.
  if (worst.absolute <= atol + rtol * largest) return worst;
  const place = shape ? `${worst.index} [${coordinates(worst.index, shape).join(", ")}]` : `${worst.index}`;
  throw new AssertionError({
    message:
      `${name}: element ${place} of ${expected.length} is ${worst.actual} instead of ${worst.expected}: ` +
      `off by ${worst.absolute.toExponential(2)}, ${
        worst.relativeToTensor.toExponential(2)
      } of the tensor's ` +
      `largest, ${
        worst.relativeToElement.toExponential(2)
      } of itself (allowed: ${rtol} of the ${relativeTo}` +
      `${atol ? ` + ${atol}` : ""})`,
  });
}

function coordinates(index: number, shape: readonly number[]): number[] {
  const out: number[] = [];
  for (const size of shape.toReversed()) {
    out.unshift(index % size);
    index = Math.floor(index / size);
  }
  return out;
}
