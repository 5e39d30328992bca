import assert from "node:assert/strict";
import config from "../../deno.json" with { type: "json" };
import { join } from "node:path";
import { examine } from "../../src/cli/doctor.ts";
import { bytes, startFakeHub } from "../helpers/fake_hub.ts";
import { runInTerminal, script, startFake } from "../helpers/process.ts";
import { makeRoot } from "../helpers/service.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

async function withJob(job: unknown, test: (root: string, path: string) => Promise<void>): Promise<void> {
  const root = await makeRoot();
  const path = join(root, "job.json");
  await Deno.writeTextFile(path, typeof job === "string" ? job : JSON.stringify(job));
  try {
    await test(root, path);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const job = { model: "model", dataset: { path: "rows.jsonl" } };
const stepsIn = (text: string) =>
  text.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line).step);

Deno.test("train() prints a metrics line a step, and nothing when it is run again", () =>
  withJob(job, async (root, path) => {
    await using first = startFake(root, 1, ["train", path]);
    assert.equal(await first.code, 0, first.lines.join("\n"));
    assert.deepEqual(stepsIn(await first.stdout), [1, 2, 3, 4, 5, 5]);
    assert.match(first.lines.join("\n"), /1 rows left out, such as train row 7: empty response/);
    const result = /succeeded after 5 steps: (.*)$/m.exec(first.lines.join("\n"))![1]!;
    assert.equal(await Deno.readTextFile(join(result, "adapter_config.json")), "{}");
    await using second = startFake(root, 1, ["train", "--quiet", path]);
    assert.equal(await second.code, 0);
    assert.equal(await second.stdout, "");
    assert.match(second.lines.join("\n"), /has succeeded already/);
  }));

const rows = [
  "   step      loss  accuracy     epoch",
  "      1    1.0000     1.000      0.20",
  "      2    0.5000     1.000      0.40",
  "      3    0.3333     1.000      0.60",
  "      4    0.2500     1.000      0.80",
  "      5    0.2000     1.000      1.00",
  "      5    0.5000                      eval",
];

Deno.test("train() prints rows where it is asked to", () =>
  withJob(job, async (root, path) => {
    await using process = startFake(root, 1, ["train", "--rows", path]);
    assert.equal(await process.code, 0, process.lines.join("\n"));
    assert.deepEqual((await process.stdout).trimEnd().split("\n"), rows);
  }));

Deno.test({
  name:
    "train() shows rows, the bar and the result in a terminal, and JSON lines there only where it is asked to",
  ignore: script === null,
  fn: () =>
    withJob(job, async (root, path) => {
      const { code, shown } = await runInTerminal(root, ["train", path]);
      assert.equal(code, 0, shown);
      for (const row of rows) assert.ok(shown.includes(`${row}\r\n`), `${row} in ${shown}`);
      assert.ok(!shown.includes("{"), shown);
      assert.match(shown, /=+-* step 1\/5 {2}loss 1\.0000/);
      assert.match(shown, /Job job-\w+ succeeded after 5 steps: /);
      await Deno.remove(join(root, "state"), { recursive: true });
      const json = await runInTerminal(root, ["train", "--json", path]);
      assert.equal(json.code, 0, json.shown);
      assert.match(json.shown, /^\{"step":1,"loss":1,/m);
    }),
});

Deno.test("train() refuses --json beside --rows", () =>
  withJob(job, async (root, path) => {
    await using process = startFake(root, 1, ["train", "--json", "--rows", path]);
    assert.equal(await process.code, 2);
    assert.match(process.lines.join("\n"), /^Give one of --quiet, --json and --rows\.$/m);
  }));

for (const [signal, code] of [["SIGTERM", 143], ["SIGINT", 130], ["SIGKILL", 137]] as const) {
  Deno.test(`train() run again after ${signal} goes on where it was`, () =>
    withJob(job, async (root, path) => {
      await using first = startFake(root, 100, ["train", path]);
      const jobs = join(root, "state", "jobs");
      while (!await checkpointIn(jobs)) await new Promise((resolve) => setTimeout(resolve, 10));
      first.child.kill(signal);
      assert.equal(await first.code, code);
      await using second = startFake(root, 1, ["train", path]);
      assert.equal(await second.code, 0, second.lines.join("\n"));
      const before = stepsIn(await first.stdout);
      const after = stepsIn(await second.stdout);
      assert.ok(before.length >= 1 && after.length < 6);
      // A kill may fall between the event and the line.
      assert.deepEqual([...new Set([...before, ...after])], [1, 2, 3, 4, 5]);
    }));
}

Deno.test("train() fails a job whose process is killed three times in a row, and tries anew when asked again", () =>
  withJob(job, async (root, path) => {
    for (let life = 0; life < 3; life++) {
      await using killed = startFake(root, 100_000, ["train", path]);
      await killed.line(/^Loaded/);
      killed.child.kill("SIGKILL");
      assert.equal(await killed.code, 137);
    }
    await using failed = startFake(root, 1, ["train", path]);
    assert.equal(await failed.code, 1);
    assert.match(failed.lines.join("\n"), /^Job job-\w+ failed: The worker ended 3 times in a row/m);
    await using again = startFake(root, 1, ["train", path]);
    assert.equal(await again.code, 0, again.lines.join("\n"));
  }));

async function checkpointIn(jobs: string): Promise<boolean> {
  try {
    for await (const { name } of Deno.readDir(jobs)) {
      return (await Array.fromAsync(Deno.readDir(join(jobs, name, "checkpoints")))).length > 0;
    }
  } catch {
    // Not yet.
  }
  return false;
}

const mistakes: [name: string, job: unknown, code: number, message: RegExp][] = [
  ["a file that is not JSON", "{", 2, /job\.json" is not JSON/],
  ["an unknown field", { ...job, learning_rte: 1 }, 2, /^job\.json: learning_rte is not a known field/m],
  ["an unknown model", { ...job, model: "none" }, 2, /^model names no directory under the root/m],
  [
    "a model that the engine refuses",
    { ...job, model: "bad" },
    2,
    /Job job-\w+ failed: config\.json: hidden_size cannot be used/,
  ],
];

for (const [name, content, code, message] of mistakes) {
  Deno.test(`train() ends with exit code ${code} for ${name}`, () =>
    withJob(content, async (root, path) => {
      await writeTinyModel(join(root, "bad"));
      await using process = startFake(root, 1, ["train", path]);
      assert.equal(await process.code, code);
      assert.match(process.lines.join("\n"), message);
    }));
}

const long = "7".repeat(100_000);
/** As long as a name may be. */
const name = "7".repeat(4096);
const longMistakes: [name: string, job: object, command: string[], begin: RegExp, accepted: RegExp][] = [
  ["a job's model", { model: name }, ["train"], /^model names no directory/, /the name of a directory/],
  ["a job's unknown field", { [long]: 1 }, ["train"], /^job\.json: 77/, /\bmodel, dataset\b/],
  ["a job's folder of rows", { dataset: { path: name } }, ["train"], /^dataset\.path .*77/, /\w/],
  [
    "an option",
    {},
    ["score", "--model", "model", "--quantization", `${long}x`, "-"],
    /^--quantization must be int8, not 77/,
    /^int8/,
  ],
  ["an unknown option", {}, ["score", `--${long}`, "-"], /^--77/, /--model, --adapter/],
];

for (const [name, fields, command, begin, accepted] of longMistakes) {
  Deno.test(`${command[0]}() cuts ${name} in the error that it prints, and says behind it what would be accepted`, () =>
    withJob({ ...job, ...fields }, async (root, path) => {
      await using process = startFake(root, 1, [...command, path]);
      assert.equal(await process.code, 2);
      const [told, behind] = process.lines;
      assert.match(told!, /^.{2000}… \((100|4)\d{3} characters\)$/);
      assert.match(told!, begin);
      assert.match(behind!, /^Accepted: /);
      assert.match(behind!.slice("Accepted: ".length), accepted);
    }));
}

const item = (count: number) => JSON.stringify({ prompt: "a", candidates: Array(count).fill("b") });

Deno.test("score() maps a file's lines to lines", () =>
  withJob(job, async (root) => {
    const [input, output] = [join(root, "in.jsonl"), join(root, "out.jsonl")];
    // More lines than one call takes, a blank one among them.
    await Deno.writeTextFile(input, `${item(1)}\n\n`.repeat(70));
    await using process = startFake(root, 1, ["score", "--model", "model", "--beta", "3", input, output]);
    assert.equal(await process.code, 0, process.lines.join("\n"));
    const lines = (await Deno.readTextFile(output)).trim().split("\n").map((line) => JSON.parse(line));
    assert.equal(lines.length, 70);
    assert.deepEqual(Object.keys(lines[0]), [
      "results",
      "best",
      "margin",
      "prompt_truncated",
      "encoding",
      "usage",
    ]);
    assert.equal(lines[0].results[0].reward, -3);
  }));

Deno.test("score() takes a conversation as prompt and carries a line's other fields over", () =>
  withJob(job, async (root) => {
    const line = { id: 7, prompt: [{ role: "user", content: "a" }], candidates: ["b"], best: "mine" };
    await using process = startFake(
      root,
      1,
      ["score", "--model", "model", "-", "-"],
      {},
      JSON.stringify(line),
    );
    assert.equal(await process.code, 0, process.lines.join("\n"));
    const scored = JSON.parse(await process.stdout);
    assert.deepEqual([scored.id, scored.best, scored.results.length], [7, 0, 1]);
  }));

Deno.test("score() reads stdin, writes stdout, and names the line it refuses", () =>
  withJob(job, async (root) => {
    const args = ["score", "--model", "model", "--adapter", "adapter", "-", "-"];
    await using good = startFake(root, 1, args, {}, `${item(2)}\n${item(1)}`);
    assert.equal(await good.code, 0, good.lines.join("\n"));
    assert.deepEqual((await good.stdout).trim().split("\n").map((line) => JSON.parse(line).results.length), [
      2,
      1,
    ]);
    await using broken = startFake(root, 1, args, {}, `${item(2)}\n{"prompt":\n`);
    assert.equal(await broken.code, 2);
    assert.match(broken.lines.join("\n"), /^Line 2 is not JSON/m);
    assert.equal((await broken.stdout).trim().split("\n").length, 1);
    await using empty = startFake(root, 1, args, {}, `${item(0)}\n`);
    assert.equal(await empty.code, 2);
    assert.match(empty.lines.join("\n"), /^Line 1: candidates must be a list of at least 1 item/m);
  }));

Deno.test("score() takes a chat template from a file, and names one that is broken", () =>
  withJob(job, async (root) => {
    const path = join(root, "template.jinja");
    const args = ["score", "--model", "model", "--chat-template", path, "-", "-"];
    await Deno.writeTextFile(path, "{% for message in messages %}{{ message.content }}{% endfor %}");
    await using good = startFake(root, 1, args, {}, item(1));
    assert.equal(await good.code, 0, good.lines.join("\n"));
    await Deno.writeTextFile(path, "{% for message in messages %}");
    await using broken = startFake(root, 1, args, {}, item(1));
    assert.equal(await broken.code, 2);
    assert.match(
      broken.lines.join("\n"),
      /^--chat-template is not a Jinja template/m,
    );
  }));

Deno.test("score() says what it downloads", () =>
  withJob(job, async (root) => {
    await using hub = startFakeHub();
    const files = { "config.json": "{}", "model.safetensors": "0123" };
    const encoder = new TextEncoder();
    hub.repositories.set(
      "org/name",
      new Map(Object.entries(files).map(([name, content]) => [name, encoder.encode(content)])),
    );
    const args = ["score", "--model", "hf://org/name", "-", "-"];
    await using process = startFake(root, 1, args, { HF_ENDPOINT: hub.url }, item(1));
    assert.equal(await process.code, 0, process.lines.join("\n"));
    assert.match(process.lines.join("\n"), /^Downloading org\/name\/model\.safetensors, 0\.000004 MB\.$/m);
    assert.equal((await process.stdout).trim().split("\n").length, 1);
  }));

Deno.test("score() names a host that the hub sends on to and SIMPO_HOSTS does not, and no file comes from there", () =>
  withJob(job, async (root) => {
    await using hub = startFakeHub();
    const files = { "config.json": bytes(2), "model.safetensors": bytes(2000) };
    hub.repositories.set("org/name", new Map(Object.entries(files)));
    const args = ["score", "--model", "hf://org/name", "-", "-"];
    await using refused = startFake(root, 1, args, { HF_ENDPOINT: hub.url }, item(1));
    assert.equal(await refused.code, 2);
    const log = refused.lines.join("\n");
    const [, host] = /sends on to (localhost:\d+) for model\.safetensors of the model org\/name/.exec(log) ??
      [];
    assert.ok(host !== undefined && log.includes("add it to SIMPO_HOSTS."), log);
    assert.ok(hub.requests.every((request) => !request.startsWith("cdn ")));
    const env = { HF_ENDPOINT: hub.url, SIMPO_HOSTS: host };
    await using allowed = startFake(root, 1, args, env, item(1));
    assert.equal(await allowed.code, 0, allowed.lines.join("\n"));
  }));

const wrongArguments: [args: string[], message: RegExp][] = [
  [["-", "-"], /--model is missing/],
  [["--model", "../m", "-", "-"], /--model must not climb out/],
  [["--model", "model", "--beta", "-1", "-", "-"], /--beta/],
  // its rewards would be infinite, and null in the answer
  [
    ["--model", "model", "--beta", "1e308", "-", "-"],
    /^--beta must be a number of at most 10000, not 1e\+308\.$/,
  ],
  [["--model", "model", "--beta", "0x10", "-", "-"], /^--beta must be a number, not "0x10"\.$/],
  [["--model", "model", "--prompt-boundary", "dpo", "-", "-"], /--prompt-boundary must be "trl" \| "simpo"/],
  [["--model", "model", "--max-length", "x", "-", "-"], /--max-length must be a number or null, not "x"/],
  [
    ["--model", "model", "--max-length", "8", "--max-prompt-length", "8", "-", "-"],
    /--max-prompt-length must leave room for a response: less than max_length 8, not 8/,
  ],
  [["--model", "model", "--chat-template-kwargs", "{", "-", "-"], /--chat-template-kwargs must be an object/],
  [["--model", "model", "--quantization", "int4", "-", "-"], /--quantization must be int8, not int4/],
  [["--model", "model", "--adapter", "none", "-", "-"], /adapter names no directory/],
  [
    ["--model", "model", "--chat-template", "/nowhere/t.jinja", "-", "-"],
    /--chat-template "\/nowhere\/t\.jinja" cannot be read/,
  ],
  [["--modle", "model", "-", "-"], /^--modle is not a known option; known are --model, --adapter, /m],
  [["--model", "model", "in.jsonl"], /Give 2 arguments, not 1/],
  [["--model", "model", "/nowhere/in.jsonl", "-"], /"\/nowhere\/in\.jsonl" cannot be read/],
];

for (const [args, message] of wrongArguments) {
  Deno.test(`score() ends with exit code 2 for ${args.join(" ")}`, () =>
    withJob(job, async (root) => {
      await using process = startFake(root, 1, ["score", ...args], {}, "");
      assert.equal(await process.code, 2);
      assert.match(process.lines.join("\n"), message);
    }));
}

for (const command of ["serve", "train", "score", "doctor"]) {
  Deno.test(`${command}() prints its usage to stdout for --help`, async () => {
    await using process = startFake("/nowhere", 1, [command, "--help"]);
    assert.equal(await process.code, 0, process.lines.join("\n"));
    assert.match(await process.stdout, new RegExp(`^Usage: main\\.ts ${command}`));
  });
}

Deno.test("doctor() reports the device, as text and as JSON", () =>
  withJob(job, async (root) => {
    await using text = startFake(root, 1, ["doctor"]);
    assert.equal(await text.code, 0, text.lines.join("\n"));
    assert.match(await text.stdout, /^Device: no device \(software, fake fake\)$/m);
    assert.match(await text.stdout, new RegExp(`^simpo-worker ${config.version}$`, "m"));
    assert.match(await text.stdout, /^No GPU answers: .* only with SIMPO_DEVICE=software\./);
    await using json = startFake(root, 1, ["doctor", "--json"], { SIMPO_DEVICE: "software" });
    assert.equal(await json.code, 0);
    const report = JSON.parse(await json.stdout);
    assert.deepEqual([report.device.kind, report.error, report.serve], ["software", null, { ok: true }]);
    assert.equal(report.version, config.version);
    assert.ok(report.findings.some(({ name }: { name: string }) => name === "Vulkan loader"));
  }));

const nothing = { driverFiles: [], nvidiaCapabilities: null, nvidiaDevices: null, runtimeDirectory: null };

Deno.test("examine() names what an NVIDIA container lacks", async () => {
  const findings = await examine({ ...nothing, nvidiaDevices: "all", nvidiaCapabilities: "compute,utility" });
  const capabilities = findings.find(({ name }) => name === "NVIDIA_DRIVER_CAPABILITIES");
  assert.deepEqual([capabilities?.ok, capabilities?.found], [false, "compute,utility"]);
  assert.match(capabilities?.remedy ?? "", /compute,utility,graphics/);
  for (const nvidiaCapabilities of ["all", "compute,graphics"]) {
    const findings = await examine({ ...nothing, nvidiaDevices: "0", nvidiaCapabilities });
    assert.equal(findings.find(({ name }) => name === "NVIDIA_DRIVER_CAPABILITIES")?.ok, true);
  }
});

Deno.test("examine() names a driver file that is not there", async () => {
  const findings = await examine({ ...nothing, driverFiles: ["/nowhere/icd.json"] });
  const drivers = findings.find(({ name }) => name.startsWith("Vulkan drivers"));
  assert.equal(drivers?.ok, false);
  assert.match(drivers?.found ?? "", /VK_DRIVER_FILES names \/nowhere\/icd\.json, which is not there/);
});
