import { constants } from "node:os";
import assert from "node:assert/strict";
import { join } from "node:path";
import { startTask, urlOf } from "./helpers/process.ts";
import { inFolder } from "./helpers/folder.ts";
import { writeTinyModel } from "./helpers/tiny_model.ts";

const windows = Deno.build.os === "windows";

const ends: [signal: Deno.Signal, to: "the launcher" | "the terminal's processes", code: number][] = [
  ["SIGTERM", "the launcher", 0],
  ["SIGINT", "the launcher", 0],
  // from the terminal to both, and from the launcher again
  ["SIGINT", "the terminal's processes", 0],
  // serve does not listen for these: the signal ends it
  ["SIGHUP", "the launcher", 129],
  ["SIGQUIT", "the launcher", 131],
];

/** A shell's command in the background, or under nohup, inherits that a signal is ignored, and hands that on. */
function isIgnored(signal: Deno.Signal): boolean {
  if (Deno.build.os !== "linux") return false;
  // grep's own, which it inherits from this process
  const { stdout } = new Deno.Command("grep", { args: ["^SigIgn", "/proc/self/status"] }).outputSync();
  const [, mask] = /(\w+)\s*$/.exec(new TextDecoder().decode(stdout))!;
  return (BigInt(`0x${mask}`) >> BigInt(constants.signals[signal as "SIGHUP"] - 1) & 1n) === 1n;
}

for (const [signal, to, code] of ends) {
  Deno.test({
    name: `launcher.ts serve, ${signal} to ${to}: ends with exit code ${code}, and the server with it`,
    ignore: windows || code !== 0 && isIgnored(signal),
    fn: () =>
      inFolder(async (root) => {
        await using launched = await startTask(root, ["serve"]);
        const url = await urlOf(launched);
        const { pid } = launched.child;
        Deno.kill(to === "the launcher" ? pid : -pid, signal);
        assert.equal(await launched.code, code, launched.lines.join("\n"));
        await assert.rejects(fetch(`${url}/livez`), TypeError);
      }),
  });
}

Deno.test({
  name: "launcher.ts serve ends with exit code 0 however often SIGINT comes",
  ignore: windows,
  fn: () =>
    inFolder(async (root) => {
      await using launched = await startTask(root, ["serve"]);
      await urlOf(launched);
      let ended = false;
      const code = launched.code.finally(() => ended = true);
      while (!ended) {
        try {
          Deno.kill(-launched.child.pid, "SIGINT");
        } catch {
          // All of them have ended.
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      assert.equal(await code, 0, launched.lines.join("\n"));
    }),
});

Deno.test("launcher.ts score reads stdin, writes stdout, and files outside the root that its arguments name", () =>
  inFolder((root) =>
    inFolder(async (elsewhere) => {
      await writeTinyModel(join(root, "models", "tiny"));
      const lines = '{"prompt": "the", "candidates": [" sea", " land"]}\n';
      const args = ["score", "--model", "models/tiny"] as const;
      await using piped = await startTask(root, [...args, "-", "-"], {}, lines);
      assert.equal(await piped.code, 0, piped.lines.join("\n"));
      const [input, output] = ["in.jsonl", "out.jsonl"].map((name) => join(elsewhere, name));
      await Deno.writeTextFile(input!, lines);
      await using files = await startTask(root, [...args, input!, output!]);
      assert.equal(await files.code, 0, files.lines.join("\n"));
      assert.equal(await Deno.readTextFile(output!), await piped.stdout);
      assert.equal(JSON.parse(await piped.stdout).results.length, 2);
    })
  ));

const refusals: [env: Record<string, string>, message: RegExp][] = [
  [{ PORT: "http" }, /^PORT must be a whole number from 0 to 65535, not "http"\.$/m],
  [{ SIMPO_ROOT: "/a,b" }, /^SIMPO_ROOT must be a path without a comma, not "\/a,b"\.$/m],
  [{ SIMPO_ROOT: "/nowhere" }, /^SIMPO_ROOT must be a folder that is there, not "\/nowhere"\.$/m],
];

for (const [env, message] of refusals) {
  Deno.test(`launcher.ts serve ends with exit code 2 for ${JSON.stringify(env)}`, () =>
    inFolder(async (root) => {
      await using launched = await startTask(root, ["serve"], env);
      assert.equal(await launched.code, 2);
      assert.match(launched.lines.join("\n"), message);
      assert.doesNotMatch(launched.lines.join("\n"), /^ +at /m);
    }));
}
