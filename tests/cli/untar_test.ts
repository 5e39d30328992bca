import assert from "node:assert/strict";
import { join } from "node:path";
import { unpackTar } from "../../src/cli/_untar.ts";
import { openTar } from "../../src/model/tar.ts";
import { inFolder } from "../helpers/folder.ts";

async function pack(folder: string, files: Record<string, Uint8Array>): Promise<Uint8Array> {
  const entries = [];
  for (const [name, bytes] of Object.entries(files)) {
    const path = join(folder, `source-${entries.length}`);
    await Deno.writeFile(path, bytes);
    entries.push({ name, path });
  }
  return new Uint8Array(await new Response((await openTar(entries)).stream()).arrayBuffer());
}

Deno.test("unpackTar() gives back the files of openTar(), empty ones and those of odd sizes included", async () => {
  await inFolder(async (folder) => {
    const files = {
      "adapter_config.json": new TextEncoder().encode("{}"),
      "deep/folder/weights": crypto.getRandomValues(new Uint8Array(1537)),
      "empty": new Uint8Array(),
      [`${"long/".repeat(25)}name`]: new Uint8Array(512).fill(7),
    };
    const out = join(folder, "out");
    assert.deepEqual(await unpackTar(await pack(folder, files), out), Object.keys(files));
    for (const [name, bytes] of Object.entries(files)) {
      assert.deepEqual(await Deno.readFile(join(out, name)), bytes);
    }
  });
});

Deno.test("unpackTar() refuses a name that leads out of the folder, and writes nothing", async () => {
  await inFolder(async (folder) => {
    for (const name of ["../escaped", "/escaped", "a/../../escaped"]) {
      const archive = await pack(folder, { [name]: new Uint8Array(1) });
      await assert.rejects(() => unpackTar(archive, join(folder, "out")), /is not a file inside its folder/);
    }
    await assert.rejects(() => Deno.stat(join(folder, "escaped")), Deno.errors.NotFound);
  });
});

Deno.test("unpackTar() refuses an archive that is cut off or none at all", async () => {
  await inFolder(async (folder) => {
    const archive = await pack(folder, { weights: new Uint8Array(2000) });
    await assert.rejects(() => unpackTar(archive.subarray(0, 1024), folder), /truncated/);
    await assert.rejects(() => unpackTar(archive.subarray(0, 512 + 2048), folder), /truncated/);
    await assert.rejects(
      () => unpackTar(new TextEncoder().encode("no tar".repeat(200)), folder),
      /Invalid tar/,
    );
  });
});
