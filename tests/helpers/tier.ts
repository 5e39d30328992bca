/**
 * How much of the tests runs. Tests that differ in a variant alone (a design of a kernel, a storage type, a family, a size)
 * are many, and a driver compiles kernels for each: `deno task test` runs a sample of them, `deno task test --all` and a
 * plain `deno test` every one.
 */

/** The variable that tells a tier: `sample`, or anything else for all. */
export const TIER_VARIABLE = "SIMPO_TEST_TIER";

/** Whether every variant runs. */
export function everyVariant(): boolean {
  return Deno.env.get(TIER_VARIABLE) !== "sample";
}

/**
 * What registers a test that is one variant of several.
 *
 * @param inSample whether it stands for the others; one that does not is ignored, and counted, in a sample
 */
export function variant(inSample: boolean): (name: string, fn: () => void | Promise<void>) => void {
  return inSample || everyVariant() ? Deno.test : Deno.test.ignore;
}
