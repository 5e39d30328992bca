import assert from "node:assert/strict";
import { join } from "node:path";
import { freeDeviceBytes } from "../../src/gpu/device_memory.ts";

const H100 = { vendor: "4318", device: "NVIDIA H100 80GB HBM3", description: "" };

/** What freeDeviceBytes() makes of a command that prints this. */
async function ask(printed: string, info = H100, exit = 0): Promise<number | null> {
  const folder = await Deno.makeTempDir();
  try {
    const command = join(folder, "nvidia-smi");
    await Deno.writeTextFile(command, `#!/bin/sh\nprintf '${printed}'\nexit ${exit}\n`, { mode: 0o755 });
    return await freeDeviceBytes(info, command);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const usable = (mebibytes: number) => Math.floor(mebibytes * 2 ** 20 * 0.95);

Deno.test("freeDeviceBytes() leaves a twentieth of what nvidia-smi says", async () => {
  assert.equal(await ask("NVIDIA H100 80GB HBM3, 80991\\n"), usable(80_991));
});

Deno.test("freeDeviceBytes() takes the fullest of the GPUs that could be meant", async () => {
  const lines = "NVIDIA H100 80GB HBM3, 500\\nNVIDIA H100 80GB HBM3, 400\\nNVIDIA L4, 100\\n";
  assert.equal(await ask(lines), usable(400));
  assert.equal(await ask(lines, { ...H100, device: "NVIDIA GPU" }), usable(100));
});

Deno.test("freeDeviceBytes() knows nothing of other vendors, and where the command fails", async () => {
  assert.equal(await ask("AMD, 100\\n", { vendor: "4098", device: "AMD Radeon", description: "" }), null);
  assert.equal(await ask("NVIDIA H100 80GB HBM3, [N/A]\\n"), null);
  assert.equal(await ask("", H100, 9), null);
  assert.equal(await freeDeviceBytes(H100, "/nowhere/nvidia-smi"), null);
});
