import assert from "node:assert/strict";
import { Client } from "../src/cli/_client.ts";
import { askDoctor, startServer } from "../src/cli/_server_process.ts";
import { differences, parseCurl, readExamples } from "./helpers/readme.ts";

Deno.test("README.md's curl examples, pasted as they stand, print what it says", async () => {
  const examples = readExamples(await Deno.readTextFile(new URL("../README.md", import.meta.url)));
  assert.deepEqual(examples.map(({ path }) => path), ["/score", "/train", "/v1/completions"]);
  const state = await Deno.makeTempDir();
  const server = startServer(state, (await askDoctor()).kind);
  try {
    await new Client(server.url, server.ended).ready();
    for (const { path, method, headers, body, answer } of examples) {
      const response = await fetch(server.url + path, { method, headers, body });
      const text = await response.text();
      assert.ok(response.ok, `${path} answered ${response.status}: ${text}`);
      assert.deepEqual(differences(answer, JSON.parse(text)), []);
    }
  } finally {
    await server.stop();
    await Deno.remove(state, { recursive: true });
  }
});

Deno.test("parseCurl() reads what a shell would hand to curl", () => {
  assert.deepEqual(parseCurl(`curl -s http://localhost:8080/score -H 'a: b' \\\n  -d '{\n "x": 1 }'\n`), {
    path: "/score",
    method: "POST",
    headers: { a: "b" },
    body: '{\n "x": 1 }',
  });
  for (
    const command of [
      "curl http://localhost:8080/$ID",
      "curl --insecure http://localhost:8080/",
      "curl http://x/",
    ]
  ) {
    assert.throws(() => parseCurl(command), Error);
  }
});

Deno.test("differences() forgives rounding, free fields and an ellipsis, and nothing else", () => {
  const printed = { id: "job-…", n: -1.5, list: [1, null] };
  assert.deepEqual(differences(printed, { id: "job-1", n: -1.50001, list: [1, null], more: true }), []);
  assert.equal(differences(printed, { id: "task-1", n: -1.5, list: [1, null] }).length, 1);
  assert.equal(differences(printed, { id: "job-1", n: -1.6, list: [1, null] }).length, 1);
  assert.equal(differences(printed, { id: "job-1", n: -1.5, list: [1] }).length, 1);
  assert.equal(differences(printed, { id: "job-1", n: -1.5, list: [1, 0] }).length, 1);
  assert.equal(differences(printed, { n: -1.5, list: [1, null] }).length, 1);
});
