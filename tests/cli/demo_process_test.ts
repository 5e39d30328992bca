import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import config from "../../deno.json" with { type: "json" };

Deno.test(
  "demo() stops its server when it is interrupted",
  { ignore: Deno.build.os === "windows" },
  async () => {
    const child = new Deno.Command(Deno.execPath(), {
      args: config.tasks.demo.command.split(" ").slice(1),
      cwd: fileURLToPath(new URL("../..", import.meta.url)),
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    let output = "";
    let url: string | undefined;
    for await (
      const text of child.stdout.pipeThrough(
        new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>,
      )
    ) {
      output += text;
      if (url !== undefined) continue;
      url = /^Server: (\S+)/m.exec(output)?.[1];
      if (url !== undefined) child.kill("SIGINT");
    }
    assert.equal((await child.status).code, 130);
    assert.ok(url !== undefined, output);
    await assert.rejects(() => fetch(`${url}/livez`), TypeError, "the server still answers");
  },
);
