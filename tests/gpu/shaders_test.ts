import assert from "node:assert/strict";
import { indented } from "../../tasks/_indented.ts";

const SHADERS = new URL("../../shaders/", import.meta.url);
const texts = new Map<string, string>();
for (const folder of ["", "lib/", "software/"]) {
  for await (const { name, isFile } of Deno.readDir(new URL(folder, SHADERS))) {
    if (isFile) texts.set(folder + name, await Deno.readTextFile(new URL(folder + name, SHADERS)));
  }
}

/** A text without its comments. */
const code = (text: string) => text.replaceAll(/\/\/[^\n]*/g, "");

Deno.test("a shader has one indentation, two spaces a brace, for directives too", () => {
  for (const [name, text] of texts) assert.equal(text, indented(text), name);
});

const BUILT_IN = new Set(
  ("if for return select min max abs exp fma clamp any dot array vec2 vec3 vec4 mat4x4 bitcast transpose " +
    "unpack2x16float unpack4xI8 workgroupBarrier builtin workgroup_size binding group").split(" "),
);
const preludes = [...texts.keys()].filter((name) => /^lib\/|attention_lanes/.test(name));

for (const name of preludes) {
  Deno.test(`${name} says which constants and functions it needs`, () => {
    const text = texts.get(name)!;
    const needs = /^\/\/ Needs: (.*?\.)$/ms.exec(text)?.[1] ?? "";
    const directives = code(text).match(/@(?:if|unroll) ?\([^)]*\)|\$\([^)]*\)|\$\w+/g) ?? [];
    const constants = directives.join(" ").match(/\b[A-Z]\w+\b/g) ?? [];
    const called = [...code(text).matchAll(/(?<!fn |@|\$|\w)([a-z]\w*)\(/g)].map(([, name]) => name!);
    const defined = [...code(text).matchAll(/fn (\w+)/g)].map(([, name]) => name!);
    const foreign = called.filter((name) => !defined.includes(name) && !BUILT_IN.has(name));
    assert.deepEqual(
      new Set(needs.match(/\b(?:[A-Z][A-Z_]+|[a-z]\w*(?=\(\)))/g)?.map((name) => name.replace("()", ""))),
      new Set([...constants, ...foreign]),
    );
  });
}
