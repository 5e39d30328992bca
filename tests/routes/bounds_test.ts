/** Requests beyond every bound: each is refused by name, others are answered meanwhile. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  mostBodyAllFields,
  mostBodyBrackets,
  mostBodyDepth,
  mostBodyFields,
  mostBodyNames,
  mostBodyValues,
} from "../../src/json_scan.ts";
import { JsonAssembly, jsonParts } from "../../src/json_parts.ts";
import { excessOf } from "../../src/json_scan.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { testService } from "../helpers/service.ts";

const item = '{"prompt":"a","candidates":[]}';
const row = JSON.stringify(plainRows(1)[0]);

interface Refusal {
  readonly name: string;
  readonly path: string;
  readonly body: () => string;
  readonly status: number;
  readonly detail: RegExp;
}

const refusals: Refusal[] = [
  {
    name: "a prompt of 10 million entries",
    path: "/v1/completions",
    body: () => `{"model":"model","max_tokens":1,"prompt":[${"1,".repeat(1e7)}1]}`,
    status: 422,
    detail: /^body holds more than 2000000 values\.$/,
  },
  {
    name: "a prompt of a million wrong entries",
    path: "/v1/completions",
    body: () => `{"model":"model","max_tokens":1,"prompt":[${"-1,".repeat(1e6)}-1]}`,
    status: 422,
    detail: /^prompt\[0\] must be a number of at least 0, not -1\.$/,
  },
  {
    name: "a model of 4 million brackets",
    path: "/score",
    body: () => `{"model":${"[".repeat(4e6)}`,
    status: 422,
    detail: /^body is nested more than 128 deep\.$/,
  },
  {
    name: "150,000 items without candidates",
    path: "/score",
    body: () => `{"model":"model","items":[${`${item},`.repeat(149_999)}${item}]}`,
    status: 422,
    detail: /^items must be a list of at most 20000 items, not \[/,
  },
  {
    name: "20,000 items without candidates",
    path: "/score",
    body: () => `{"model":"model","items":[${`${item},`.repeat(19_999)}${item}]}`,
    status: 422,
    detail: /^items\[0\]\.candidates must be a list of at least 1 item, not \[\]\.$/,
  },
  {
    name: "more rows than a request may bring",
    path: "/train",
    body: () => `{"model":"model","dataset":{"rows":[${`${row},`.repeat(50_000)}${row}]}}`,
    status: 422,
    detail: /^dataset\.rows must be a list of at most 50000 items, not \[/,
  },
  {
    name: "more rows than a request may bring, in several data sets",
    path: "/train",
    body: () => {
      const rows = (count: number) => `{"rows":[${"1,".repeat(count - 1)}1]}`;
      return `{"model":"model","dataset":[${rows(30_000)},${rows(20_000)}],"eval_dataset":${rows(1)}}`;
    },
    status: 422,
    detail: /^dataset and eval_dataset bring 50001 rows: give at most 50000 rows in all/,
  },
  {
    name: "50,000 unusable rows",
    path: "/train",
    body: () => `{"model":"model","dataset":{"rows":[${`{"x":1},`.repeat(49_999)}{"x":1}]}}`,
    status: 422,
    detail:
      /^dataset\.rows\[0\] .* At least 6000 of 50000 rows cannot be used, max_left_out 0\.1 allows 5000: row 2: /,
  },
  {
    name: "an object of 100,000 fields",
    path: "/score",
    body: () => `{${Array.from({ length: 1e5 }, (_, i) => `"k${i}":1`)}}`,
    status: 422,
    detail: /^body holds an object of more than 1000 fields\.$/,
  },
  {
    name: "epochs without end",
    path: "/train",
    body: () => `{"model":"model","dataset":{"path":"rows.jsonl"},"num_train_epochs":1e16}`,
    status: 422,
    detail: /^num_train_epochs must be a number of at most 100000, not 10000000000000000\.$/,
  },
  {
    name: "steps that are no whole number any more",
    path: "/train",
    body: () => `{"model":"model","dataset":{"path":"rows.jsonl"},"max_steps":1e300}`,
    status: 422,
    detail: /^max_steps must be a number of at most 1000000000 or null, not 1e\+300\.$/,
  },
  {
    name: "a number that JavaScript has none for",
    path: "/train",
    body: () => `{"model":"model","dataset":{"path":"rows.jsonl"},"learning_rate":1e999}`,
    status: 422,
    detail: /^learning_rate must be a number, not "Infinity"\.$/,
  },
  {
    name: "a rate that f32 does not hold",
    path: "/train",
    body: () => `{"model":"model","dataset":{"path":"rows.jsonl"},"learning_rate":1e39}`,
    status: 422,
    detail: /^learning_rate must be a number of at most 100, not 1e\+39\.$/,
  },
  {
    name: "a pattern of modules that takes for ever",
    path: "/train",
    body: () => `{"model":"model","dataset":{"path":"rows.jsonl"},"lora":{"rank_pattern":{"(.+)+x":4}}}`,
    status: 422,
    detail:
      /^lora\.rank_pattern.* has a name that must be a regular expression in which no group is repeated/,
  },
  {
    name: "half a JSON text, long",
    path: "/score",
    body: () => `{"model":"${"a".repeat(2 ** 21)}`,
    status: 400,
    detail: /^The body must be JSON\.$/,
  },
];

for (const { name, path, body, status, detail } of refusals) {
  Deno.test(`POST ${path} refuses ${name} and serves the next request is served`, async () => {
    await using service = await testService({ maxBodyBytes: 64 * 2 ** 20 });
    const text = body();
    const answer = await service.post(path, text);
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    assert.match(answer.body.detail, detail);
    assert.ok(JSON.stringify(answer.body).length < 6000);
    assert.equal(
      (await service.post("/score", { model: "model", prompt: "a", candidates: ["b"] })).status,
      200,
    );
  });
}

Deno.test("a body in bad UTF-8 is refused, a byte order mark is not", async () => {
  await using service = await testService();
  const send = async (bytes: Uint8Array<ArrayBuffer>) => {
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: bytes };
    const response = await service.app.request("/score", init);
    return [response.status, (await response.json()).detail];
  };
  const good = new TextEncoder().encode('\ufeff{"model":"model","prompt":"a","candidates":["b"]}');
  assert.equal((await send(good))[0], 200);
  const bad = good.slice(3);
  bad[bad.indexOf(0x62)] = 0xff; // the b
  assert.deepEqual(await send(bad), [400, "body is not UTF-8."]);
});

Deno.test("a body in an encoding is refused by that name", async () => {
  await using service = await testService();
  const body = { model: "model", prompt: "a", candidates: ["b"] };
  const { status, body: { field, value } } = await service.post("/score", body, {
    "content-encoding": "gzip",
  });
  assert.deepEqual([status, field, value], [415, "Content-Encoding", "gzip"]);
  assert.equal((await service.post("/score", body, { "content-encoding": "identity" })).status, 200);
});

Deno.test("/livez is answered while a body of 30 MB is read", async () => {
  await using service = await testService({ maxBodyBytes: 64 * 2 ** 20 });
  const rows = Array.from(
    { length: 30_000 },
    (_, i) => ({ prompt: "p ".repeat(400) + i, x: "y".repeat(200) }),
  );
  const body = JSON.stringify({ model: "model", dataset: { rows } });
  assert.ok(body.length > 30e6);
  let done = false;
  const refused = service.post("/train", body).finally(() => done = true);
  let answered = 0;
  for (; !done; answered++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal((await service.get("/livez")).status, 200);
  }
  assert.equal((await refused).status, 422);
  assert.ok(answered > 10, `${answered} probes`);
});

for (
  const [name, within, beyond] of [
    ["depth", "[".repeat(mostBodyDepth), "[".repeat(mostBodyDepth + 1)],
    ["values", `[${"1,".repeat(mostBodyValues - 2)}1]`, `[${"1,".repeat(mostBodyValues)}1]`],
    ["brackets", `[${"[],".repeat(mostBodyBrackets - 1)}1]`, `[${"[],".repeat(mostBodyBrackets)}1]`],
    ["fields", fieldsOf(1, mostBodyFields), fieldsOf(1, mostBodyFields + 1)],
    ["fields in all", named(mostBodyAllFields / 100), named(mostBodyAllFields / 100 + 1)],
    ["names", fieldsOf(mostBodyNames / 100, 99), fieldsOf(mostBodyNames / 100 + 1, 100)],
    ["text", '["\\\\", "[[[[\\"[[[", {"a\\"": ",,,:"}]', "[".repeat(200)],
  ] as const
) {
  Deno.test(`excessOf() counts ${name}, and nothing inside texts`, () => {
    const bytes = (text: string) => new TextEncoder().encode(text);
    assert.equal(excessOf(bytes(within)), null);
    assert.equal(typeof excessOf(bytes(beyond)), "string");
  });
}

/** Objects with 100 fields of the same names, in which lists come before the last. */
function named(objects: number): string {
  const fields = Array.from({ length: 99 }, (_, k) => `"k${k}":1`);
  return `[${Array(objects).fill(`{${fields},"list":[[1,2],3,4]}`)}]`;
}

/** Objects with fields of different names. */
function fieldsOf(objects: number, fields: number): string {
  const object = (i: number) => `{${Array.from({ length: fields }, (_, k) => `"k${i}_${k}" : 1`)}}`;
  return `[${Array.from({ length: objects }, (_, i) => object(i))}]`;
}

Deno.test("jsonParts() and JsonAssembly give a value as it was, in parts of bounded size", () => {
  const value = JSON.parse(
    `{"__proto__":{"a":1},"items":[${`{"p":[1,2,"x"],"q":null},`.repeat(9000)}[${"7,".repeat(20_000)}8]],` +
      `"deep":{"rows":[${'"r",'.repeat(30_000)}{}]},"s":""}`,
  );
  const parts = [...jsonParts(value)];
  assert.ok(parts.length > 10);
  for (const part of parts) assert.ok(JSON.stringify(part).length < 100_000);
  const whole = new JsonAssembly();
  for (const part of parts) whole.add(structuredClone(part));
  assert.equal(JSON.stringify(whole.value), JSON.stringify(value));
  for (const small of [null, 1, "a", [], {}, [[]]]) {
    const whole = new JsonAssembly();
    for (const part of jsonParts(small)) whole.add(part);
    assert.deepEqual(whole.value, small);
  }
});

Deno.test("/livez is answered while a model of many tensors is looked through", async () => {
  await using service = await testService();
  const tensors = Object.fromEntries(Array.from({ length: 29_000 }, (_, i) => {
    return [`tensor_${i}`, { dtype: "BF16", shape: [1], data_offsets: [2 * i, 2 * i + 2] }];
  }));
  const header = new TextEncoder().encode(JSON.stringify(tensors));
  const file = new Uint8Array(8 + header.length + 58_000);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  await Deno.writeFile(join(service.root, "model", "model.safetensors"), file);
  let done = false;
  const refused = service.post("/train", { model: "model", dataset: { path: "rows.jsonl" } })
    .finally(() => done = true);
  let answered = 0;
  for (; !done; answered++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal((await service.get("/livez")).status, 200);
  }
  assert.match((await refused).body.detail, /^The weights hold no tensor "model\.embed_tokens\.weight"\.$/);
  assert.ok(answered > 20, `${answered}`);
});
