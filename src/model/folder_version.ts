import { join } from "node:path";

/**
 * A folder's name with the sizes and times of its files: a folder that is written anew has another. Every scoring call
 * asks for it twice, and a promise a file would take most of a small call's time beside the device.
 */
export function folderVersion(directory: string): string {
  const files = namesIn(directory).sort().map((name) => {
    try {
      const { mtime, size } = Deno.statSync(join(directory, name));
      return [name, mtime?.getTime() ?? 0, size];
    } catch {
      return [name, 0, 0];
    }
  });
  return JSON.stringify([directory, ...files]);
}

function namesIn(directory: string): string[] {
  try {
    return Array.from(Deno.readDirSync(directory), ({ name }) => name);
  } catch {
    return [];
  }
}
