import type { Kernel } from "./kernel.ts";

/** What one dispatch needs beside its tensors; none of either skips it. */
export type Launch =
  & { readonly params: Readonly<Record<string, number>> }
  & (
    /** Along x, y, z. */
    | { readonly workgroups: readonly [number, number, number] }
    /** At least so many, in workgroups of the kernel's size that are folded as {@link fold} does. */
    | { readonly invocations: number }
  );

/** A launch in workgroups. */
export function sizedLaunch(
  { workgroup: [x, y, z] }: Kernel,
  launch: Launch,
): { readonly params: Launch["params"]; readonly workgroups: readonly [number, number, number] } {
  if ("workgroups" in launch) return launch;
  return { params: launch.params, workgroups: fold(Math.ceil(launch.invocations / (x * y * z))) };
}

/** Workgroups for `count` units along x, folded into y past the limit of 65,535; the shader uses `num_workgroups.x`. */
export function fold(count: number): [number, number, number] {
  if (count <= 65535) return [count, 1, 1];
  const y = Math.ceil(count / 65535);
  return [Math.ceil(count / y), y, 1];
}
