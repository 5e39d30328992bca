import assert from "node:assert/strict";
import { z } from "zod";
import { CompletionRequestSchema } from "../../src/api/completion.ts";
import { JobRequestSchema } from "../../src/api/job.ts";
import { list, mapping, most, openObject, tokenIds } from "../../src/api/limits.ts";
import { ScoreRequestSchema } from "../../src/api/score.ts";
import { resolveSettings } from "../../src/api/settings.ts";
import { InputError } from "../../src/errors.ts";
import { isPattern } from "../../src/model/module_pattern.ts";
import { parseWith } from "../../src/validation.ts";
import { bodies, description, parameters, type Place, places, type Schema } from "./_schema.ts";

const root = await description();

/** What has no bound in a schema that needs one. */
function unbounded({ path, schema }: Place): string[] {
  const lacks = (kind: string, ...bounds: string[]) =>
    [schema.type].flat().includes(kind) && !bounds.some((bound) => schema[bound] !== undefined);
  const fixed = schema.enum !== undefined || schema.const !== undefined;
  const found = [
    lacks("number", "minimum", "exclusiveMinimum") && "minimum",
    lacks("number", "maximum", "exclusiveMaximum") && "maximum",
    lacks("integer", "minimum", "exclusiveMinimum") && "minimum",
    lacks("integer", "maximum", "exclusiveMaximum") && "maximum",
    lacks("string", "maxLength", "pattern") && "maxLength",
    lacks("array", "maxItems") && "maxItems",
    lacks("object", "maxProperties") && schema.additionalProperties !== false && "maxProperties",
  ];
  return fixed ? [] : found.filter((bound) => bound !== false).map((bound) => `${path.join(".")}: ${bound}`);
}

Deno.test("every number, text, list and object of a request has bounds in /openapi.json", () => {
  const all: [string, Schema][] = [...bodies(root), ...parameters(root)];
  assert.ok(bodies(root).length === 4 && all.length > 12, `${all.length}`);
  for (const [name, schema] of all) {
    assert.deepEqual([...places(root, schema)].flatMap(unbounded), [], name);
  }
});

/** Numbers past what some type holds, or beside what a field takes. */
const EXTREMES = [
  ...[
    0,
    1,
    2 ** 7,
    2 ** 8,
    2 ** 15,
    2 ** 16,
    2 ** 22,
    2 ** 24,
    2 ** 31,
    2 ** 32,
    2 ** 52,
    2 ** 53,
    2 ** 63,
    2 ** 64,
  ]
    .flatMap((number) => number === 0 ? [0, -0, -1] : [number - 1, number + 1, -number]),
  ...[
    0.5,
    1.5,
    1e-8,
    1e-38,
    1e-45,
    1e-46,
    5e-324,
    1e9,
    1e12,
    1e16,
    9.3e18,
    1e21,
    3.4e38,
    1e39,
    1e308,
    -1e308,
    -1e-9,
  ],
  Infinity,
  -Infinity,
  NaN,
];

const BASES: Record<string, { schema: z.ZodType; base: Record<string, unknown> }> = {
  "post /score": { schema: ScoreRequestSchema, base: { model: "m", prompt: "a", candidates: ["b"] } },
  "post /v1/completions": {
    schema: CompletionRequestSchema,
    base: { model: "m", prompt: "a", max_tokens: 1, echo: true },
  },
  "post /train": { schema: JobRequestSchema, base: { model: "m", dataset: { path: "rows.jsonl" } } },
};

/** A copy with a value in a place; what is not there on the way is made. */
function withValue(base: unknown, [key, ...rest]: Place["path"], value: unknown): unknown {
  if (key === undefined) return value;
  const inner = (base as Record<string | number, unknown> | undefined)?.[key];
  const changed = withValue(inner, rest, value);
  if (typeof key === "number") return [changed];
  return { ...typeof base === "object" ? base : {}, [key]: changed };
}

for (const [route, schema] of bodies(root)) {
  Deno.test(`${route} takes of ${EXTREMES.length} extreme numbers in each numeric field those within its bounds`, () => {
    const numeric = [...places(root, schema)].filter(({ schema: { type, const: fixed } }) =>
      fixed === undefined && (type === "number" || type === "integer")
    );
    assert.equal(numeric.length >= 3, Object.hasOwn(BASES, route));
    if (numeric.length === 0) return; // a resume's body has none
    const { schema: zod, base } = BASES[route]!;
    let taken = 0;
    for (const { path, schema: { minimum, exclusiveMinimum, maximum, exclusiveMaximum, type } } of numeric) {
      for (const extreme of EXTREMES) {
        const method = path[0] === "method" ? { method: { type: "simpo" } } : {};
        const body = withValue({ ...base, ...method }, path, extreme);
        let parsed: unknown;
        try {
          parsed = parseWith(zod, body);
        } catch (error) {
          assert.ok(error instanceof InputError, `${path.join(".")} ${extreme}: ${error}`);
          continue;
        }
        taken++;
        const fits = extreme >= (minimum ?? -Infinity) && extreme > (exclusiveMinimum ?? -Infinity) &&
          extreme <= (maximum ?? Infinity) && extreme < (exclusiveMaximum ?? Infinity) &&
          (type === "number" || Number.isSafeInteger(extreme));
        assert.ok(fits, `${path.join(".")} took ${extreme}`);
        if (route !== "post /train") continue;
        const text = JSON.stringify(resolveSettings(parsed as Parameters<typeof resolveSettings>[0]));
        assert.ok(!/:null/.test(text.replace(/"(\w+)":null/g, "")), text);
        for (const [number] of text.matchAll(/(?<=[:,\[])-?\d[\d.e+-]*/g)) {
          assert.ok(Math.abs(Number(number)) < 3.4e38, `${path.join(".")} made ${number} of ${extreme}`);
        }
      }
    }
    assert.ok(taken > numeric.length);
  });
}

Deno.test("list() is refused by its length, and at its first item, whatever its methods make of it", () => {
  const plain = list(z.int().max(9), { min: 1, max: 3 });
  for (
    const schema of [
      plain,
      plain.meta({ description: "x" }),
      plain.optional().unwrap(),
      plain.superRefine(() => {}),
    ]
  ) {
    assert.deepEqual(schema.parse([1, 2]), [1, 2]);
    for (const _ of [1, 2, 3]) {
      assert.deepEqual(schema.safeParse([1, 11, 12]).error?.issues.map(({ path }) => path), [[1]]);
      assert.equal(schema.safeParse([11, 12, 13, 14]).error?.issues[0]?.code, "too_big");
      assert.equal(schema.safeParse([]).error?.issues[0]?.code, "too_small");
      assert.equal(schema.safeParse("a").error?.issues[0]?.code, "invalid_type");
    }
  }
});

Deno.test("mapping() and openObject() are refused by the number of their fields", () => {
  const many = Object.fromEntries(Array.from({ length: 4 }, (_, i) => [`k${i}`, 1]));
  const { k0: _, ...few } = many;
  for (const schema of [mapping(z.string(), z.number(), { max: 3 }), openObject({}, 3).meta({ a: 1 })]) {
    for (const _ of [1, 2, 3]) {
      assert.deepEqual(schema.parse(few), few);
      assert.equal(schema.safeParse(many).error?.issues[0]?.code, "too_big");
    }
  }
});

Deno.test("tokenIds() takes a million ids in a few milliseconds each", () => {
  const schema = tokenIds(1);
  assert.equal(schema.parse(new Array(most.tokenIds).fill(7)).length, most.tokenIds);
  for (const wrong of [-1, 1.5, 2 ** 32, "1", null]) {
    assert.ok(!schema.safeParse([1, wrong]).success, `${wrong}`);
  }
});

Deno.test("parseWith() says of a list in a union that it is too long", () => {
  const body = { model: "m", prompt: new Array(most.tokenIds + 1).fill(1), max_tokens: 0, echo: true };
  assert.throws(
    () => parseWith(CompletionRequestSchema, body),
    /^InputError: prompt must be a list of at most 1048576 items, not \[1,1,1/,
  );
});

for (
  const [source, taken] of [
    ["layers\\.0\\..*", true],
    [
      "(?:.*?(?:language|text).*?(?:mlp|ffn).*?(?:k_proj|v_proj).*?)|(?:\\bmodel\\.layers\\.[\\d]{1,}\\.mlp)",
      true,
    ],
    ["^(?!.*vision).*", true],
    ["[(a+)+]", true],
    ["\\(a\\)+", true],
    [`(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?)`, true],
    [
      `^model\\.layers\\.(${
        Array.from({ length: 126 }, (_, i) => i).join("|")
      })\\.mlp\\.(gate|up|down)_proj$`,
      true,
    ],
    ["(a+)+$", false],
    [`${".?".repeat(30)}x`, false],
    [`${"(a|a)".repeat(30)}x`, false],
    [`${"(a|[a-z])".repeat(30)}x`, false],
    [`${"(?:(?:a)|(?:a))".repeat(30)}x`, false],
    ["(a|a)*x", false],
    ["(.{1,9}){20}", false],
    [".*.*.*.*.*.*.*x", false],
    ["(", false],
  ] as const
) {
  Deno.test(`isPattern() ${taken ? "takes" : "refuses"} ${source}`, () =>
    assert.equal(isPattern(source), taken));
}
