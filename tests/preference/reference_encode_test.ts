import assert from "node:assert/strict";
import { encodeComparison } from "../../src/preference/encode.ts";
import { parseRow } from "../helpers/settings.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { readTrajectory, trajectoryModel } from "../reference/trajectory.ts";

for (const name of ["llama_full", "qwen3_full"] as const) {
  Deno.test(`encodeComparison() gives the tokens and the boundary that TRL gives: ${name}`, async () => {
    const { rows, tokens, settings } = await readTrajectory(name);
    const tokenizer = await loadTokenizer(trajectoryModel(name));
    for (const [index, row] of rows.entries()) {
      const comparison = parseRow(row, index + 1, "preference");
      const { group } = encodeComparison(tokenizer, comparison, { ...settings, truncation_mode: "keep_end" });
      assert.ok(group, `row ${index + 1} was left out`);
      const found = group.responses.map((response) => ({
        ids: [...group.prompt, ...response.tokens],
        scored_from: group.prompt.length + response.scored_from,
      }));
      assert.deepEqual(found, [tokens[index]!.chosen, tokens[index]!.rejected]);
    }
  });
}
