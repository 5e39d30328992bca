import assert from "node:assert/strict";
import fc from "fast-check";
import { readShaderInterface } from "../../src/gpu/shader_interface.ts";
import { expandWgsl } from "../../src/gpu/wgsl.ts";

/** Expands and squeezes white space, which carries no meaning. */
function expanded(text: string, constants: Record<string, number> = {}): string {
  return expandWgsl(text, constants).replace(/\s+/g, " ").trim();
}

Deno.test("expandWgsl() repeats the body of @unroll with its variable", () => {
  assert.equal(expanded("@unroll(i, 0, 3) { var c$i = 0.0; }"), "var c0 = 0.0; var c1 = 0.0; var c2 = 0.0;");
  assert.equal(expanded("a; @unroll(i, 2, 2) { b$i; } c;"), "a; c;");
});

Deno.test("expandWgsl() nests @unroll, whose bounds may use the outer variable and the constants", () => {
  assert.equal(
    expanded("@unroll(i, 0, ROWS / 2) { @unroll(j, i, ROWS - 1) { c$i_$j; } }", { ROWS: 4 }),
    "c0_0; c0_1; c0_2; c1_1; c1_2;",
  );
  assert.equal(expanded("@unroll(i, 0, 2) { for (;;) { x$i } }"), "for (;;) { x0 } for (;;) { x1 }");
});

Deno.test("expandWgsl() restores an outer variable after an inner one of its name", () => {
  assert.equal(expanded("@unroll(i, 0, 2) { @unroll(i, 5, 6) { a$i; } b$i; }"), "a5; b0; a5; b1;");
});

Deno.test("expandWgsl() ends a bare name at an underscore", () => {
  assert.equal(expanded("c$i_$j $(TILE_M)u", { i: 1, j: 2, TILE_M: 64 }), "c1_2 64u");
});

Deno.test("expandWgsl() keeps one branch of @if and expands nothing in the other", () => {
  const text = "@if (LAYOUT == 2) { a$LAYOUT; } @else { @if (LAYOUT == 1) { b; } @else { $missing; } }";
  assert.equal(expanded(text, { LAYOUT: 2 }), "a2;");
  assert.equal(expanded(text, { LAYOUT: 1 }), "b;");
  assert.throws(() => expanded(text, { LAYOUT: 0 }), /missing/);
  assert.equal(expanded("x; @if (ON == 1) { y; } z;", { ON: 0 }), "x; z;");
});

Deno.test("expandWgsl() expands nothing in comments and keeps WGSL's own attributes", () => {
  const code = "@group(0) @binding(1) var<storage, read> x: array<f32>;";
  assert.ok(expanded(`// @unroll(i, 0, 2) and $missing\n${code}`).endsWith(code));
});

Deno.test("expandWgsl() computes integer expressions as JavaScript does, with truncating division", () => {
  const { expression } = fc.letrec<{ expression: { text: string; value: number } }>((tie) => ({
    expression: fc.oneof(
      { maxDepth: 5 },
      fc.nat(99).map((value) => ({ text: `${value}`, value })),
      fc.constant({ text: "N", value: 7 }),
      fc.tuple(
        fc.constantFrom("+", "-", "*", "/", "%", "<", ">", "<=", ">=", "==", "!="),
        tie("expression"),
        tie("expression"),
      ).map(([operator, left, right]) => {
        const by = "/%".includes(operator) && right.value === 0 ? { text: "3", value: 3 } : right;
        const values: Record<string, number> = {
          "+": left.value + by.value,
          "-": left.value - by.value,
          "*": left.value * by.value,
          "/": Math.trunc(left.value / by.value),
          "%": left.value % by.value,
          "<": Number(left.value < by.value),
          ">": Number(left.value > by.value),
          "<=": Number(left.value <= by.value),
          ">=": Number(left.value >= by.value),
          "==": Number(left.value === by.value),
          "!=": Number(left.value !== by.value),
        };
        return { text: `(${left.text} ${operator} ${by.text})`, value: values[operator]! };
      }),
    ),
  }));
  fc.assert(fc.property(expression, ({ text, value }) => {
    assert.equal(Number(expandWgsl(`$(${text})`, { N: 7 })), value + 0); // -0 is written as 0
  }));
});

Deno.test("expandWgsl() binds * before +, comparisons before && and && before ||", () => {
  assert.equal(expanded("$(2 + 3 * 4)"), "14");
  assert.equal(expanded("$(10 - 4 - 3)"), "3");
  assert.equal(expanded("@if (A == 1 && B > 2 || C) { yes } @else { no }", { A: 0, B: 3, C: 1 }), "yes");
  assert.equal(expanded("@if (A == 1 && B > 2) { yes } @else { no }", { A: 0, B: 3 }), "no");
});

Deno.test("expandWgsl() refuses what it cannot read", () => {
  for (
    const [text, message] of [
      ["$ROWS", /"ROWS" is not known/],
      ["$(ROWS + 1)", /"ROWS" is not known/],
      ["$(1 +)", /"end" is not known/],
      ["$(1 2)", /Cannot read/],
      ["$((1 + 2)", /Unbalanced \(/],
      ["@unroll(i, 0, 2) { a;", /Unbalanced \{/],
      ["@unroll(i, 0, 2) a;", /followed by \{/],
      ["@unroll(i, 2) { a; }", /needs \(name, from, to\)/],
      ["@if (1 == 1) a;", /followed by \{/],
    ] as const
  ) assert.throws(() => expandWgsl(text, {}), { name: "SyntaxError", message });
});

const SHADER = `
struct Params {
  rows: u32, // how many
  shift: i32,
  eps: f32,
}
struct Other { x: vec4<f32> }
@group(0) @binding(0) var<storage, read> params: Params;
// @group(0) @binding(9) var<storage, read> in_a_comment: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0)  @binding(1)
var<storage,read> x: array<f32>;
alias Chunk = vec4<u32>;
@group(0) @binding(3) var<storage, read> z: array<Chunk>;
@compute @workgroup_size(8, 4)
fn main() {}
`;

Deno.test("readShaderInterface() reads Params in order, every binding and the workgroup size", () => {
  const { params, bindings, workgroup } = readShaderInterface("example", SHADER);
  assert.deepEqual(params, [
    { name: "rows", type: "u32" },
    { name: "shift", type: "i32" },
    { name: "eps", type: "f32" },
  ]);
  assert.deepEqual(bindings, [
    { index: 0, name: "params", access: "read", element: null },
    { index: 2, name: "y", access: "read_write", element: "f32" },
    { index: 1, name: "x", access: "read", element: "f32" },
    { index: 3, name: "z", access: "read", element: "u32" },
  ]);
  assert.deepEqual(workgroup, [8, 4, 1]);
});

Deno.test("readShaderInterface() finds no parameters where there is no Params", () => {
  const code =
    "@group(0) @binding(0) var<storage, read_write> size: array<atomic<u32>>; @compute @workgroup_size(64,)";
  assert.deepEqual(readShaderInterface("probe", code), {
    params: [],
    bindings: [{ index: 0, name: "size", access: "read_write", element: "u32" }],
    workgroup: [64, 1, 1],
  });
});

Deno.test("readShaderInterface() refuses parameters that are no 4-byte scalars", () => {
  const code = "struct Params { size: vec2<u32>, rows: u32 }";
  assert.throws(() => readShaderInterface("wide", code), {
    name: "SyntaxError",
    message: /wide: Params.*vec2/,
  });
});

Deno.test("readShaderInterface() refuses a workgroup size that it cannot count", () => {
  for (const size of ["", "@workgroup_size()", "@workgroup_size(WIDTH, 1)", "@workgroup_size(0)"]) {
    assert.throws(() => readShaderInterface("sized", `${size} fn main() {}`), {
      name: "SyntaxError",
      message: /sized: @workgroup_size must be of whole numbers/,
    }, size);
  }
});
