import assert from "node:assert/strict";
import { join } from "node:path";
import { styleText } from "node:util";
import { inspect, inspectionText } from "../../src/cli/inspect.ts";
import { makeRoot } from "../helpers/service.ts";
import { plainRows } from "../helpers/tiny_model.ts";

/** What a command prints. */
async function printed(run: () => Promise<number>): Promise<string> {
  const { log } = console;
  const lines: string[] = [];
  console.log = (line: string) => void lines.push(line);
  try {
    assert.equal(await run(), 0);
  } finally {
    console.log = log;
  }
  return lines.join("\n");
}

Deno.test("inspect() shows a job file's rows with what is scored between marks, and as JSON where it is asked to", async () => {
  const root = await makeRoot();
  try {
    const rows = [...plainRows(5), { prompt: "the", chosen: "", rejected: "tin" }];
    await Deno.writeTextFile(join(root, "rows.jsonl"), rows.map((row) => JSON.stringify(row)).join("\n"));
    const job = join(root, "job.json");
    await Deno.writeTextFile(job, JSON.stringify({ model: "model", dataset: { path: "rows.jsonl" } }));
    const environment = new Map([["SIMPO_ROOT", root]]);
    const text = await printed(() => inspect([job], environment));
    assert.match(text, /^train: 6 rows make 5 examples\n {2}6 read as \{prompt, chosen, rejected\}\n/);
    assert.match(
      text,
      /left out 1, .*\n {4}1: response 1 of 2 is empty\n {4}row 6: response 1 of 2 is empty\n/,
    );
    assert.match(
      text,
      new RegExp(`row 1\n<\\|begin\\|>${rows[0]!.prompt}.*\n  → ⟦ .*<\\|end\\|>⟧ \\(\\d+ tokens\\)`),
    );
    const json = JSON.parse(await printed(() => inspect(["--json", job], environment)));
    assert.equal(json.train.examples, 5);
    assert.equal(inspectionText(json, false), text);
    assert.ok(
      inspectionText(json, true).includes(
        styleText("green", json.train.first[0].responses[0].scored, { validateStream: false }),
      ),
    );
    await assert.rejects(inspect([join(root, "none.json")], environment), { name: "InputError" });
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
