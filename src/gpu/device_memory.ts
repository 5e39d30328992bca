/** Where NVIDIA's driver lies on Linux, in containers too; commands may run this path and no other. */
export const NVIDIA_SMI = "/usr/bin/nvidia-smi";
const NVIDIA_VENDOR = /nvidia|\b4318\b|10de/i;
/** The rest is for pipelines and for what the driver rounds up. */
const USABLE = 0.95;
const TIMEOUT_MS = 5000;

/**
 * Bytes of a GPU's memory that nobody uses. WebGPU does not tell, NVIDIA's `nvidia-smi` does.
 *
 * @param command absolute path of `nvidia-smi` (tests)
 * @returns null where it is another vendor's, or the command is not there, not permitted or not understood
 */
export async function freeDeviceBytes(
  { vendor, device, description }: Pick<GPUAdapterInfo, "vendor" | "device" | "description">,
  command = NVIDIA_SMI,
): Promise<number | null> {
  if (!NVIDIA_VENDOR.test(`${vendor} ${device} ${description}`)) return null;
  try {
    // asked first, since a process that may prompt would stop to do so
    if ((await Deno.permissions.query({ name: "run", command })).state !== "granted") return null;
    const { success, stdout } = await new Deno.Command(command, {
      args: ["--query-gpu=name,memory.free", "--format=csv,noheader,nounits"],
      stdout: "piped",
      stderr: "null",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).output();
    return success ? usable(new TextDecoder().decode(stdout), `${device} ${description}`) : null;
  } catch {
    return null;
  }
}

/** A line is a GPU, `NVIDIA H100 80GB HBM3, 80991`; of several that could be meant the fullest counts. */
function usable(lines: string, device: string): number | null {
  const gpus = lines.trim().split("\n").map((line) => {
    const [name = "", free = ""] = line.split(",").map((part) => part.trim());
    return { name, mebibytes: /^\d+$/.test(free) ? Number(free) : NaN };
  });
  const named = gpus.filter(({ name }) => name !== "" && device.includes(name));
  const least = Math.min(...(named.length > 0 ? named : gpus).map(({ mebibytes }) => mebibytes));
  return Number.isFinite(least) ? Math.floor(least * 2 ** 20 * USABLE) : null;
}
