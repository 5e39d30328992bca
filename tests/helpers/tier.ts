/**
 * How much of the tests runs. Tests that differ in a variant alone (a design of a kernel, a storage type, a family, a size)
 * are many, and a driver compiles kernels for each: `deno task test` runs a sample of them, `deno task test --all` each
 * value of each variant, `deno task soak variants` and a plain `deno test` every combination of them.
 */

/** The variable that tells a tier: `sample`, `all`, or anything else for every combination. */
export const TIER_VARIABLE = "SIMPO_TEST_TIER";

/**
 * What registers a test that is one variant of several.
 *
 * @param inSample whether it stands for the others; one that does not is ignored, and counted, in a sample
 * @param inAll whether it has a value that no other of `--all` has
 */
export function variant(
  inSample: boolean,
  inAll = true,
): (name: string, fn: () => void | Promise<void>) => void {
  const tier = Deno.env.get(TIER_VARIABLE);
  const runs = inSample || (tier === "all" ? inAll : tier !== "sample");
  return runs ? Deno.test : Deno.test.ignore;
}
