/** One `@group(0) @binding(n)` of a shader. */
export interface Binding {
  readonly index: number;
  readonly name: string;
  readonly access: "read" | "read_write";
  /** The numbers of its array, such as `f32` for `array<vec4<f32>>`; null where it is none. */
  readonly element: string | null;
}

/** One 4-byte scalar of the shader's `Params`. */
export interface ParamField {
  readonly name: string;
  readonly type: "u32" | "i32" | "f32";
}

/** What a shader declares; the dispatch is checked against it. */
export interface ShaderInterface {
  readonly params: readonly ParamField[];
  readonly bindings: readonly Binding[];
  /** Invocations of a workgroup along x, y, z. */
  readonly workgroup: readonly [number, number, number];
}

/**
 * Reads the `Params` fields, the bindings and the workgroup size that a shader declares.
 *
 * @throws {SyntaxError} where `Params` holds what no parameter can be, or the workgroup size is not in whole numbers
 */
export function readShaderInterface(name: string, code: string): ShaderInterface {
  const plain = code.replace(/\/\/[^\n]*/g, "");
  const struct = /struct\s+Params\s*\{([^}]*)\}/.exec(plain);
  const params = (struct?.[1] ?? "").split(",").map((line) => line.trim()).filter((line) => line !== "").map(
    (line) => {
      const field = /^(\w+)\s*:\s*(u32|i32|f32)$/.exec(line);
      if (!field) {
        throw new SyntaxError(`${name}: Params may hold u32, i32 and f32 fields only, not "${line}".`);
      }
      return { name: field[1]!, type: field[2] as ParamField["type"] };
    },
  );
  const bindings: Binding[] = [];
  for (
    const [, index, access, name, type] of plain.matchAll(
      /@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>\s*(\w+)\s*:\s*([^;]+);/g,
    )
  ) {
    bindings.push({
      index: Number(index),
      name: name!,
      access: access as Binding["access"],
      element: elementOf(type!, plain),
    });
  }
  return { params, bindings, workgroup: workgroupOf(name, plain) };
}

/** The scalar of an `array<...>`, through the shader's aliases. */
function elementOf(type: string, code: string): string | null {
  const inner = /^array\s*<\s*(.*?)\s*>$/.exec(type.trim())?.[1];
  const named = inner && new RegExp(`alias\\s+${inner}\\s*=\\s*([^;]+);`).exec(code)?.[1];
  return /\b[fiu]\d\d\b/.exec(named || inner || "")?.[0] ?? null;
}

function workgroupOf(shader: string, code: string): [number, number, number] {
  const sizes = /@workgroup_size\(([^)]*)\)/.exec(code)?.[1]?.split(",").map((size) => size.trim()) ?? [];
  const [x = NaN, y = 1, z = 1] = sizes.filter((size) => size !== "").map(Number);
  if ([x, y, z].every((size) => Number.isInteger(size) && size > 0)) return [x, y, z];
  throw new SyntaxError(`${shader}: @workgroup_size must be of whole numbers, not (${sizes.join(", ")}).`);
}
