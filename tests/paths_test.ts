import fc from "fast-check";
import assert from "node:assert/strict";
import { join, sep } from "node:path";
import { InputError } from "../src/errors.ts";
import { resolveInside } from "../src/paths.ts";
import { inFolder } from "./helpers/folder.ts";

/** A root with `model/`, `file`, and links in and out of it. */
async function withRoot(test: (root: string) => Promise<void>): Promise<void> {
  const top = await Deno.realPath(await Deno.makeTempDir());
  const root = join(top, "root");
  await Deno.mkdir(join(root, "model"), { recursive: true });
  await Deno.mkdir(join(root, "linked"));
  await Deno.mkdir(join(top, "root-beside"));
  await Deno.writeTextFile(join(top, "secret"), "secret");
  await Deno.writeTextFile(join(root, "file"), "");
  await Deno.symlink(join(root, "model"), join(root, "inner"));
  await Deno.symlink(top, join(root, "outer"));
  await Deno.symlink(join(top, "root-beside"), join(root, "beside"));
  await Deno.symlink(join(top, "secret"), join(root, "linked", "model.safetensors"));
  await Deno.symlink(join(root, "loop"), join(root, "loop"));
  try {
    await test(root);
  } finally {
    await Deno.remove(top, { recursive: true });
  }
}

Deno.test("resolveInside() finds folders, files and links that stay", () =>
  withRoot(async (root) => {
    assert.equal(await resolveInside({ root }, "model", "directory"), join(root, "model"));
    assert.equal(await resolveInside({ root }, "./model/", "directory"), join(root, "model"));
    assert.equal(await resolveInside({ root }, "inner", "directory"), join(root, "model"));
    assert.equal(await resolveInside({ root }, "file", "file"), join(root, "file"));
  }));

const refusals: [name: string, status: number, message: RegExp][] = [
  ["", 422, /^body must name something under the root/],
  ["../secret", 422, /must not climb out of its folder with "\.\.": "\.\.\/secret"/],
  ["model/../../secret", 422, /must not climb out/],
  ["..", 422, /must not climb out/],
  ["/etc", 422, /must be relative to the root, not the absolute path "\/etc"/],
  ["outer", 422, /leads out of the root through a symbolic link: "outer"/],
  ["beside", 422, /leads out of the root/],
  ["linked", 422, /holds a symbolic link that leads out of the root: "linked\/model\.safetensors"/],
  ["mo\0del", 422, /must not hold a NUL character/],
  ["..\\secret", 422, /must not hold a backslash/],
  ["file", 422, /must name a directory/],
  ["none", 404, /names no directory under the root: "none"/],
  ["file/none", 404, /names no directory/],
  ["loop", 404, /names no directory/],
  ["x".repeat(5000), 404, /names no directory/],
];

for (const [name, status, message] of refusals) {
  Deno.test(`resolveInside() refuses ${JSON.stringify(name.slice(0, 30))}`, () =>
    withRoot((root) =>
      assert.rejects(resolveInside({ root }, name, "directory"), (error) => {
        assert.ok(error instanceof InputError);
        assert.match(error.message, message);
        assert.equal(error.status, status);
        return true;
      })
    ));
}

Deno.test("resolveInside() never leaves the root, whatever the name", () =>
  withRoot((root) =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.constantFrom(
            "..",
            ".",
            "",
            "/",
            "model",
            "outer",
            "inner",
            "linked",
            "secret",
            "root",
            "\\",
            "\0",
          ),
          {
            maxLength: 6,
          },
        ),
        async (parts) => {
          try {
            const path = await resolveInside({ root }, parts.join("/"), "directory");
            assert.ok(path === root || path.startsWith(root + sep), path);
          } catch (error) {
            assert.ok(error instanceof InputError, String(error));
          }
        },
      ),
      { numRuns: 300 },
    )
  ));

Deno.test("resolveInside() leads into the worker's own folders by no way", () =>
  inFolder(async (root) => {
    const from = { root, state: join(root, "state"), cache: join(root, "kept", "hub") };
    await Deno.mkdir(join(from.state, "jobs", "job-1"), { recursive: true });
    await Deno.mkdir(join(from.cache, "models"), { recursive: true });
    await Deno.mkdir(join(root, "model"));
    await Deno.mkdir(join(root, "states"));
    await Deno.writeTextFile(join(from.state, "jobs.sqlite"), "");
    await Deno.symlink("state/jobs", join(root, "link"));
    await Deno.symlink("../state/jobs.sqlite", join(root, "model", "weights"));
    const closed = [
      "state",
      "state/",
      "./state/jobs",
      "state//jobs/./job-1",
      "kept/hub",
      "kept/hub/models",
      "link",
      "link/job-1",
      "state/jobs.sqlite",
    ];
    for (const name of closed) {
      await assert.rejects(resolveInside(from, name, "file or directory"), (error) => {
        assert.ok(error instanceof InputError);
        assert.equal(error.message, `body leads into the worker's own folders: ${JSON.stringify(name)}.`);
        return true;
      });
    }
    await assert.rejects(
      resolveInside(from, "model", "directory"),
      /body holds a symbolic link that leads into the worker's own folders: "model\/weights"\./,
    );
    await Deno.remove(join(root, "link"));
    for (const name of ["states", "kept", "."]) await resolveInside(from, name, "directory");
    // A root within the state folder is open, but for what the worker keeps there.
    const shared = { root, state: root, cache: root };
    await Deno.mkdir(join(root, "jobs", "job-1"), { recursive: true });
    await resolveInside(shared, "states", "directory");
    await assert.rejects(resolveInside(shared, "jobs/job-1", "directory"), /the worker's own folders/);
  }));
