import assert from "node:assert/strict";
import { join } from "node:path";
import { runSoak } from "../../tasks/soak.ts";
import type { Soak } from "../../tasks/soak/_soak.ts";
import { crashChains } from "../../tasks/soak/crashes.ts";
import { fuzzFiles } from "../../tasks/soak/files.ts";
import { fuzzRequests } from "../../tasks/soak/requests.ts";
import { inFolder } from "../helpers/folder.ts";
import { variant } from "../helpers/tier.ts";

const on = new AbortController().signal;

function pretended(run: Soak["run"], version = 1): Soak {
  return { proves: "Nothing.", version, cells: ["a", "b", "c"], minutesPerCell: 0, run };
}

Deno.test("runSoak() keeps what cells found, and goes on with those that are missing, failed, of an older version or named", () =>
  inFolder(async (folder) => {
    const file = join(folder, "results", "x.jsonl");
    const ran: string[] = [];
    const say: string[] = [];
    const soak = (bad: string, version?: number) =>
      pretended((cell) => {
        ran.push(cell);
        return cell === bad ? Promise.reject(new Error("no")) : Promise.resolve({ figure: 5 });
      }, version);
    assert.deepEqual(await runSoak(soak("b"), file, on, (line) => say.push(line)), ["b"]);
    assert.deepEqual(ran.splice(0), ["a", "b", "c"]);
    assert.match(say.join("\n"), /^Cell b \(2 of 3, .*\)$/m);
    const lines = (await Deno.readTextFile(file)).trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(lines.map(({ cell, ok, figure, error }) => [cell, ok, figure ?? error]), [
      ["a", true, 5],
      ["b", false, "no"],
      ["c", true, 5],
    ]);
    await Deno.writeTextFile(file, '{"version":1,"cell":"b","ok":tr', { append: true }); // cut by a kill
    assert.deepEqual(await runSoak(soak(""), file, on, () => {}), []);
    assert.deepEqual(ran.splice(0), ["b"]);
    assert.deepEqual(await runSoak(soak("", 2), file, on, () => {}), []);
    assert.deepEqual(ran.splice(0), ["a", "b", "c"]);
    assert.deepEqual(await runSoak(soak("c", 2), file, on, () => {}, ["c"]), ["c"]);
    assert.deepEqual(await runSoak(soak("", 2), file, on, () => {}), []);
    assert.deepEqual(ran, ["c", "c"]);
  }));

Deno.test("runSoak() leaves a cell that is interrupted without a result", () =>
  inFolder(async (folder) => {
    const stop = new AbortController();
    const file = join(folder, "x.jsonl");
    const soak = pretended((cell) => {
      if (cell === "b") stop.abort();
      return Promise.resolve({});
    });
    assert.deepEqual(await runSoak(soak, file, stop.signal, () => {}), ["b", "c"]);
    assert.equal((await Deno.readTextFile(file)).trim().split("\n").length, 1);
  }));

Deno.test("deno task soak refuses a name or cell that it does not know, with those it does", async () => {
  const soak = async (...args: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["task", "soak", ...args],
    })
      .output();
    const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assert.equal(code, 2, error);
    return { out: out!, error: error! };
  };
  const { out, error } = await soak("none");
  assert.match(error, /Give one of .*crashes.*files.*, not none\./);
  assert.match(out, /^crashes: .* \d+ cells of about \d+ minutes\.$/m);
  assert.match(
    (await soak("files", "none")).error,
    /Give a cell of files, one of "seed 1", .*, not "none"\./,
  );
});

Deno.test("fuzzRequests() sends odd requests, of which some are refused and some served", async () => {
  const { statuses } = await fuzzRequests(1, 60);
  assert.ok(statuses[200]! > 0 && statuses[422]! > 0, JSON.stringify(statuses));
});

Deno.test("fuzzFiles() scores with damaged files, of which some are refused and some used", async () => {
  const { used, refused } = await fuzzFiles(1, 20);
  assert.ok(used > 0 && refused > 0, `${used}, ${refused}`);
});

variant(false, false)("crashChains() ends jobs at random moments", async () => {
  assert.ok((await crashChains(1, 1)).lives > 0);
});
