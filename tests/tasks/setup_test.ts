import assert from "node:assert/strict";
import {
  adviceFor,
  type CommandResult,
  type GpuAnswer,
  type Host,
  setUp,
  SetupError,
} from "../../tasks/setup.ts";

const OK: CommandResult = { code: 0, output: "" };
const SOFTWARE: GpuAnswer = { kind: "software", name: "llvmpipe" };
const NONE: GpuAnswer = { kind: "none" };

/** A machine that gives the answers in turn and keeps the commands it was asked to run. */
function pretend(
  answers: GpuAnswer[],
  changes: Partial<Host> = {},
  failing: Record<string, CommandResult> = {},
) {
  const commands: string[] = [];
  const said: string[] = [];
  const host: Host = {
    os: "linux",
    isRoot: true,
    driverOverride: undefined,
    run(command) {
      const line = command.join(" ");
      commands.push(line);
      const failure = Object.entries(failing).find(([part]) => line.includes(part));
      return Promise.resolve(failure?.[1] ?? OK);
    },
    installPackages: () => Promise.resolve(OK),
    probeGpu: () => Promise.resolve(answers.shift() ?? assert.fail("asked for a device once too often")),
    say: (line) => said.push(line),
    ...changes,
  };
  return { host, commands, said };
}

const installs = (commands: string[]) => commands.filter((line) => line.includes(" install "));

Deno.test("setUp() installs nothing where a device answers", async () => {
  const { host, commands, said } = pretend([{ kind: "gpu", name: "NVIDIA T4" }]);
  assert.deepEqual(await setUp(host), { kind: "gpu", name: "NVIDIA T4" });
  assert.deepEqual(commands, []);
  assert.deepEqual(said, ["Device: NVIDIA T4 (GPU)"]);
});

Deno.test("setUp() as root updates the lists, then installs the software driver without recommended packages", async () => {
  const { host, commands } = pretend([NONE, SOFTWARE]);
  assert.deepEqual(await setUp(host), SOFTWARE);
  const [update, install] = commands.slice(-2);
  assert.match(update!, /^env DEBIAN_FRONTEND=noninteractive apt-get .*update$/);
  assert.match(
    install!,
    /^env DEBIAN_FRONTEND=noninteractive apt-get .*install --yes --no-install-recommends libvulkan1 mesa-vulkan-drivers$/,
  );
});

Deno.test("setUp() goes through sudo where it asks for no password", async () => {
  const { host, commands } = pretend([NONE, SOFTWARE], { isRoot: false });
  await setUp(host);
  assert.ok(commands.includes("sudo -n true"));
  assert.match(installs(commands)[0]!, /^sudo -n env DEBIAN_FRONTEND=noninteractive apt-get /);
});

for (
  const [name, changes, failing] of [
    ["without root or sudo", { isRoot: false }, {
      "sudo -n true": { code: 1, output: "a password is required" },
    }],
    ["without apt-get", {}, { "apt-get --version": { code: 127, output: "apt-get was not found." } }],
    ["on macOS", { os: "darwin" }, {}],
    ["where VK_DRIVER_FILES overrules what it would install", { driverOverride: "/none.json" }, {}],
  ] as [string, Partial<Host>, Record<string, CommandResult>][]
) {
  Deno.test(`setUp() ${name} installs nothing and says what to do`, async () => {
    const { host, commands } = pretend([NONE], changes, failing);
    await assert.rejects(() => setUp(host), new SetupError(adviceFor(host)));
    assert.deepEqual(installs(commands), []);
  });
}

Deno.test("setUp() installs although one package source could not be updated", async () => {
  const { host, commands } = pretend([NONE, SOFTWARE], {}, {
    " update": { code: 100, output: "E: unreachable" },
  });
  assert.deepEqual(await setUp(host), SOFTWARE);
  assert.equal(installs(commands).length, 1);
});

Deno.test("setUp() repeats apt-get's last words where the install fails", async () => {
  const { host } = pretend([NONE], {}, {
    " install ": { code: 100, output: "Reading...\nE: No space left\n" },
  });
  await assert.rejects(() => setUp(host), { name: "SetupError", message: /E: No space left$/ });
});

Deno.test("setUp() advises where the installed driver does not answer either", async () => {
  const { host } = pretend([NONE, NONE]);
  await assert.rejects(() => setUp(host), new SetupError(adviceFor(host)));
});

Deno.test("setUp() stops where the npm packages cannot be fetched", async () => {
  const { host } = pretend([], {
    installPackages: () => Promise.resolve({ code: 1, output: "no network\n" }),
  });
  await assert.rejects(() => setUp(host), { name: "SetupError", message: /npm packages.*no network/ });
});

Deno.test("adviceFor() names the packages of each Linux family, and what answers on macOS and Windows", () => {
  const advice = (os: Host["os"]) => adviceFor({ os, driverOverride: undefined });
  for (
    const part of ["apt-get install libvulkan1", "dnf install vulkan-loader", "pacman -S vulkan-icd-loader"]
  ) assert.ok(advice("linux").includes(part), part);
  assert.match(advice("darwin"), /Metal/);
  assert.match(advice("windows"), /Direct3D 12/);
  assert.match(adviceFor({ os: "linux", driverOverride: "/x.json" }), /"\/x\.json": unset it/);
});
