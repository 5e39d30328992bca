import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pack, type PackSource, parseFolder } from "../../tasks/pack.ts";
import { inFolder } from "../helpers/folder.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Copies what deno.lock names from this machine's cache, as a frozen `deno install` would fetch it: without the registry's lists. */
async function cachedPackages(denoDir: string): Promise<void> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"], cwd: root })
    .output();
  const { npmCache } = JSON.parse(new TextDecoder().decode(stdout));
  const [registry] = await Array.fromAsync(Deno.readDir(npmCache), ({ name }) => name);
  const lock = JSON.parse(await Deno.readTextFile(join(root, "deno.lock")));
  for (const key of Object.keys(lock.npm)) {
    const [, name, version] = /^(@?[^@]+)@([^_]+)/.exec(key)!;
    const parts = [registry!, ...name!.split("/")];
    const [from, to] = [join(npmCache, ...parts), join(denoDir, "npm", ...parts)];
    await Deno.mkdir(to, { recursive: true });
    const copied = await new Deno.Command("cp", { args: ["-r", join(from, version!), to] }).output();
    assert(copied.success, `${key} is not in the cache`);
  }
}

/** Stands in for 90 MB that take long to compress: hands on to the Deno that runs the tests. */
async function sourceIn(folder: string): Promise<PackSource> {
  const deno = join(folder, "deno");
  await Deno.writeTextFile(deno, `#!/bin/sh\nexec '${Deno.execPath()}' "$@"\n`);
  return {
    deno,
    installPackages: cachedPackages,
    downloadLoader: (loader) => Deno.writeTextFile(join(loader, "libvulkan1.deb"), "a package"),
  };
}

const noPackages = (denoDir: string) => Deno.mkdir(join(denoDir, "npm"));

const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test(
  "pack() makes a bundle with which Deno finds every package without network",
  onLinux,
  () =>
    inFolder(async (folder) => {
      const source = { ...await sourceIn(folder), downloadLoader: () => Promise.resolve() };
      const bundle = join(folder, "bundle");
      const sizes = await pack(bundle, source);
      assert.deepEqual([...sizes.keys()], ["enter.sh", "deno.gz", "packages.tar.gz"]);
      assert(sizes.get("packages.tar.gz")! < 16 * 2 ** 20);

      const modules = ["main.ts", "src/engine/worker.ts", "src/engine/merge_worker.ts", "bench/main.ts"];
      const script = `. ${bundle}/enter.sh && deno --version && deno cache --frozen ${modules.join(" ")} &&
      deno eval 'import { Hono } from "hono"; console.log(typeof Hono, Deno.execPath())'`;
      const { code, stdout, stderr } = await new Deno.Command("bash", {
        args: ["-c", script],
        cwd: root,
        clearEnv: true,
        env: {
          PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
          HOME: folder,
          BUNDLE_PREFIX: join(folder, "prefix"),
          NO_COLOR: "1",
          HTTPS_PROXY: "http://127.0.0.1:9", // nobody listens there
        },
      }).output();
      const text = new TextDecoder();
      assert.equal(code, 0, text.decode(stderr));
      assert.match(text.decode(stdout), new RegExp(`^deno ${Deno.version.deno} [^]*function `));
      const unpacked = await Array.fromAsync(
        Deno.readDir(join(folder, "prefix", "deno_dir")),
        ({ name }) => name,
      );
      assert(unpacked.includes("gen"), "what was cached went into the bundle's own folder");
    }),
);

Deno.test(
  "enter.sh does not take a bundle for unpacked where a package of its loader is broken",
  onLinux,
  () =>
    inFolder(async (folder) => {
      const bundle = join(folder, "bundle");
      await pack(bundle, { ...await sourceIn(folder), installPackages: noPackages });
      const { stderr } = await new Deno.Command("bash", {
        args: ["-c", `. ${bundle}/enter.sh`],
        env: { BUNDLE_PREFIX: join(folder, "prefix") },
      }).output();
      assert.match(new TextDecoder().decode(stderr), /libvulkan1\.deb/);
      const unpacked = await Array.fromAsync(Deno.readDir(join(folder, "prefix")), ({ name }) => name);
      assert.deepEqual(unpacked.sort(), ["bin", "deno_dir", "loader"]);
    }),
);

Deno.test("pack() takes the place of an earlier bundle, and of nothing else", () =>
  inFolder(async (folder) => {
    const source = { ...await sourceIn(folder), installPackages: noPackages };
    const bundle = join(folder, "bundle");
    await pack(bundle, source);
    await Deno.writeTextFile(join(bundle, "left over"), "");
    const sizes = await pack(bundle, source);
    assert.equal(sizes.get("loader/libvulkan1.deb"), 9);
    const names = await Array.fromAsync(Deno.readDir(bundle), ({ name }) => name);
    assert.deepEqual(names.sort(), ["deno.gz", "enter.sh", "loader", "packages.tar.gz"]);
    await assert.rejects(pack(folder, source), { name: "PackError", message: /holds something else/ });
  }));

Deno.test("pack() refuses a bundle that is too large to be sent along", () =>
  inFolder(async (folder) => {
    const source = { ...await sourceIn(folder), installPackages: noPackages };
    await assert.rejects(pack(join(folder, "bundle"), source, 100), {
      name: "PackError",
      message: /has \d+ bytes, more than 100\.$/,
    });
  }));

Deno.test("parseFolder() takes one folder, and no option for one", () => {
  assert.equal(parseFolder([]), ".bundle");
  assert.equal(parseFolder(["elsewhere"]), "elsewhere");
  assert.throws(() => parseFolder(["--help"]), /'--help'/);
  assert.throws(() => parseFolder(["one", "two"]), /not one, two/);
});
