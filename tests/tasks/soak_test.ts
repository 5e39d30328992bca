import assert from "node:assert/strict";
import { join } from "node:path";
import { runSoak } from "../../tasks/soak.ts";
import type { Soak } from "../../tasks/soak/_soak.ts";
import { crashChains } from "../../tasks/soak/crashes.ts";
import { fuzzRequests } from "../../tasks/soak/requests.ts";
import { inFolder } from "../helpers/folder.ts";
import { variant } from "../helpers/tier.ts";

const on = new AbortController().signal;

function pretended(run: Soak["run"], version = 1): Soak {
  return { proves: "Nothing.", version, cells: ["a", "b", "c"], minutesPerCell: 0, run };
}

Deno.test("runSoak() keeps what cells found, and goes on with those that are missing, failed or of an older version", () =>
  inFolder(async (folder) => {
    const file = join(folder, "results", "x.jsonl");
    const ran: string[] = [];
    const say: string[] = [];
    const soak = (bad: string, version?: number) =>
      pretended((cell) => {
        ran.push(cell);
        return cell === bad ? Promise.reject(new Error("no")) : Promise.resolve({ figure: 5 });
      }, version);
    assert.equal(await runSoak(soak("b"), file, on, (line) => say.push(line)), false);
    assert.deepEqual(ran.splice(0), ["a", "b", "c"]);
    const lines = (await Deno.readTextFile(file)).trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(lines.map(({ cell, ok, figure, error }) => [cell, ok, figure ?? error]), [
      ["a", true, 5],
      ["b", false, "no"],
      ["c", true, 5],
    ]);
    await Deno.writeTextFile(file, '{"version":1,"cell":"b","ok":tr', { append: true }); // cut by a kill
    assert.equal(await runSoak(soak(""), file, on, () => {}), true);
    assert.deepEqual(ran.splice(0), ["b"]);
    assert.equal(await runSoak(soak("", 2), file, on, () => {}), true);
    assert.deepEqual(ran, ["a", "b", "c"]);
  }));

Deno.test("runSoak() leaves a cell that is interrupted without a result", () =>
  inFolder(async (folder) => {
    const stop = new AbortController();
    const file = join(folder, "x.jsonl");
    const soak = pretended((cell) => {
      if (cell === "b") stop.abort();
      return Promise.resolve({});
    });
    assert.equal(await runSoak(soak, file, stop.signal, () => {}), false);
    assert.equal((await Deno.readTextFile(file)).trim().split("\n").length, 1);
  }));

Deno.test("deno task soak refuses a name that it does not know, with those it does", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: ["task", "soak", "none"] })
    .output();
  const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert.equal(code, 2, error);
  assert.match(error!, /Give one of crashes, requests, not none\./);
  assert.match(out!, /^crashes: .* \d+ cells of about \d+ minutes\.$/m);
});

Deno.test("fuzzRequests() sends odd requests, of which some are refused and some served", async () => {
  const { statuses } = await fuzzRequests(1, 60);
  assert.ok(statuses[200]! > 0 && statuses[422]! > 0, JSON.stringify(statuses));
});

variant(false)("crashChains() ends jobs at random moments", async () => {
  assert.ok((await crashChains(1, 1)).lives > 0);
});
