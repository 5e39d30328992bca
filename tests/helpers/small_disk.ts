/** A disk of its own, small enough to be filled. */
import { join } from "node:path";

/** A small file system in memory, mounted at `path`. */
export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
  /** Fills it until this many bytes are free, to a page of 4 kB. */
  fill(leave: number): Promise<void>;
  /** Makes the room again that filling took. */
  empty(): Promise<void>;
  /** Has it refuse what is not open yet to be written, or take it again. */
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
      // The file system itself stays as it is while files are open on it: another mount of it comes over the first.
      const done = readOnly
        ? await run("mount", "--bind", path, path) && await run("mount", "-o", "remount,bind,ro", path)
        : await run("umount", path);
      if (!done) throw new Error(`${path} could not be mounted anew.`);
    },
    async [Symbol.asyncDispose]() {
      while (await run("umount", "--lazy", path));
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
