/**
 * Gradient of a scalar function by central differences, for checking written gradients in float64.
 *
 * @param f reads the flat array it is given; the array is changed in place between calls
 * @param step error about step² by truncation and 1e-16 / step by rounding
 */
export function finiteDifference(
  f: (x: Float64Array) => number,
  at: ArrayLike<number>,
  step = 1e-5,
): Float64Array {
  const x = Float64Array.from(at);
  return Float64Array.from(x, (value, i) => {
    x[i] = value + step;
    const above = f(x);
    x[i] = value - step;
    const below = f(x);
    x[i] = value;
    return (above - below) / (2 * step);
  });
}
