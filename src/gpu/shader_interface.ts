/** One `@group(0) @binding(n)` of a shader. */
export interface Binding {
  readonly index: number;
  readonly name: string;
  readonly access: "read" | "read_write";
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
}

/**
 * Reads the `Params` fields and the bindings that a shader declares.
 *
 * @throws {SyntaxError} where `Params` holds what no parameter can be
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
    const match of plain.matchAll(
      /@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>\s*(\w+)/g,
    )
  ) {
    bindings.push({ index: Number(match[1]), name: match[3]!, access: match[2] as Binding["access"] });
  }
  return { params, bindings };
}
