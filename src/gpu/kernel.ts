import { readShaderInterface, type ShaderInterface } from "./shader_interface.ts";
import { type Constants, expandWgsl } from "./wgsl.ts";

/** A compute shader ready to be compiled: its text is the only description of its parameters and bindings. */
export interface Kernel extends ShaderInterface {
  /** Names it in labels, errors and profiles. */
  readonly name: string;
  /** Expanded WGSL; also the key under which a device caches its pipeline. */
  readonly code: string;
}

/** How a kernel is made from its `.wgsl` file. */
export interface KernelDefinition {
  /** Names it in labels, errors and profiles. */
  readonly name: string;
  /** WGSL with the directives of {@link expandWgsl}. */
  readonly source: string;
  /** WGSL put in front, such as the loader of a storage type. */
  readonly preludes?: readonly string[];
  /** Integers for `$NAME`, `@unroll` and `@if`. */
  readonly constants?: Constants;
}

const made = new Map<string, Kernel>();

/**
 * Expands a shader and reads its interface; equal definitions give the same kernel.
 *
 * @throws {SyntaxError} where the shader's directives or `Params` cannot be read
 */
export function defineKernel(definition: KernelDefinition): Kernel {
  const { name, source, preludes = [], constants = {} } = definition;
  const key = JSON.stringify([name, source, preludes, constants]);
  const known = made.get(key);
  if (known) return known;
  const code = expandWgsl([...preludes, source].join("\n"), constants);
  const kernel = { name, code, ...readShaderInterface(name, code) };
  made.set(key, kernel);
  return kernel;
}
