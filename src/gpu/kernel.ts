import type { StorageFormat } from "./storage.ts";
import { readShaderInterface, type ShaderInterface } from "./shader_interface.ts";
import { type Constants, expandWgsl } from "./wgsl.ts";

/** A compute shader ready to be compiled: its text is the only description of its parameters and bindings. */
export interface Kernel extends ShaderInterface {
  /** Names it in labels, errors and profiles. */
  readonly name: string;
  /** Expanded WGSL; also the key under which a device caches its pipeline. */
  readonly code: string;
  /** How the tensor bound as `b` is stored, where a loader reads it. */
  readonly storage: StorageFormat | null;
}

/** How a kernel is made from its `.wgsl` file. */
export interface KernelDefinition {
  /** Names it in labels, errors and profiles. */
  readonly name: string;
  /** WGSL with the directives of {@link expandWgsl}. */
  readonly source: string;
  /** WGSL put in front; a storage format stands for its loader. */
  readonly preludes?: readonly (string | StorageFormat)[];
  /** Integers for `$NAME`, `@unroll` and `@if`. */
  readonly constants?: Constants;
}

const made = new Map<string, Kernel>();

/**
 * Expands a shader and reads its interface; equal definitions give the same kernel.
 *
 * @throws {SyntaxError} where the shader's directives, `Params` or workgroup size cannot be read
 * @throws {TypeError} where nothing loads from a storage format
 */
export function defineKernel(definition: KernelDefinition): Kernel {
  const { name, source, preludes = [], constants = {} } = definition;
  const storage = preludes.find((prelude) => typeof prelude !== "string") ?? null;
  if (storage?.loader === null) throw new TypeError(`${name}: nothing loads from ${storage.dtype}.`);
  const texts = preludes.map((prelude) => typeof prelude === "string" ? prelude : prelude.loader);
  const key = JSON.stringify([name, source, texts, constants]);
  const known = made.get(key);
  if (known) return known;
  const code = expandWgsl([...texts, source].join("\n"), constants);
  const kernel = { name, code, storage, ...readShaderInterface(name, code) };
  made.set(key, kernel);
  return kernel;
}

/** All kernels that were defined. */
export function definedKernels(): Iterable<Kernel> {
  return made.values();
}
