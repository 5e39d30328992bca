/** A disk of its own, small enough to be filled. */
import { join } from "node:path";

/** A small file system in memory, mounted at `path`. */
export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
  /** Fills it until this many bytes are free, to a page of 4 kB. */
  fill(leave: number): Promise<void>;
  /** Makes the room again that filling took. */
  empty(): Promise<void>;
  /** Has it refuse writes, or take them again; a file that is open for writing keeps it from being closed to them. */
  setReadOnly(readOnly: boolean): Promise<void>;
}

/** @returns null where this process may not mount: it takes Linux and its administrator */
export async function smallDisk(bytes: number): Promise<SmallDisk | null> {
  if (Deno.build.os !== "linux") return null;
  const path = await Deno.makeTempDir({ prefix: "simpo-disk-" });
  if (!await run("mount", "-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", path)) {
    await Deno.remove(path);
    return null;
  }
  const ballast = join(path, "ballast");
  return {
    path,
    async fill(leave) {
      using file = await Deno.open(ballast, { write: true, create: true, truncate: true });
      const page = new Uint8Array(1 << 12);
      let size = 0;
      try {
        for (;;) size += await file.write(page);
      } catch {
        // it is full
      }
      await file.truncate(Math.max(0, size - leave));
    },
    empty: () => Deno.remove(ballast).catch(() => {}),
    async setReadOnly(readOnly) {
      if (!await run("mount", "-o", `remount,${readOnly ? "ro" : "rw"}`, path)) throw new Error("remount");
    },
    async [Symbol.asyncDispose]() {
      await run("umount", "--lazy", path);
      await Deno.remove(path);
    },
  };
}

async function run(command: string, ...args: string[]): Promise<boolean> {
  try {
    return (await new Deno.Command(command, { args, stdout: "null", stderr: "null" }).output()).success;
  } catch {
    return false; // there is no such command here
  }
}
