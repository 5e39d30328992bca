import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { GATES, Progress, tallyOf } from "../../tasks/test.ts";
import { inFolder } from "../helpers/folder.ts";

Deno.test("tallyOf() reads the summary of a run that held", () => {
  assert.deepEqual(
    tallyOf("a ... ok (1ms)\n\nok | 12 passed (3 steps) | 0 failed | 1 ignored (10ms)\n\n", 0),
    { passed: 12, failed: 0, ignored: 1 },
  );
});

Deno.test("tallyOf() reads the summary of a run that failed", () => {
  assert.deepEqual(tallyOf("FAILED | 5 passed | 2 failed (1 step) (1s)\n\nerror: Test failed\n", 1), {
    passed: 5,
    failed: 2,
    ignored: 0,
  });
});

Deno.test("tallyOf() counts a crash and a failure outside the tests as one failure", () => {
  assert.deepEqual(tallyOf("thread 'main' panicked\n", 1), { passed: 0, failed: 1, ignored: 0 });
  assert.deepEqual(tallyOf("ok | 5 passed | 0 failed (1s)\n", 1), { passed: 5, failed: 1, ignored: 0 });
});

Deno.test("Progress tells how many files have begun and how long it took, and names the longest at the end", () => {
  let now = 0;
  const progress = new Progress(3, () => now);
  assert.equal(progress.line("running 2 tests from ./tests/a_test.ts"), "  [file 1 of 3, after 0 s]");
  assert.equal(progress.line("a test ... ok (1s)"), null);
  now = 1_000;
  assert.equal(progress.line("./tests/b_test.ts => some test ... ok (1s)"), "  [file 2 of 3, after 1 s]");
  now = 61_400;
  assert.equal(progress.line("./tests/c_test.ts => other ... ok (1s)"), "  [file 3 of 3, after 1 min 01 s]");
  assert.equal(progress.line("./tests/b_test.ts => another ... ok (1s)"), null);
  now = 70_000;
  assert.match(
    progress.summary(),
    /^1 min 10 s; longest were tests\/a_test\.ts 1 min 10 s, tests\/b_test\.ts 1 min 00 s, /,
  );

  now = 0;
  const serial = new Progress(2, () => now);
  for (const file of ["a", "b"]) {
    serial.line(`running 1 test from ./tests/${file}_test.ts`);
    now += file === "a" ? 3_000 : 5_000;
  }
  assert.equal(serial.summary(), "8 s; longest were tests/b_test.ts 5 s, tests/a_test.ts 3 s");
});

Deno.test("the gates look at the project's files and at none that a user keeps beside them", () =>
  inFolder(async (folder) => {
    const write = async (path: string, text: string) => {
      await Deno.mkdir(join(folder, dirname(path)), { recursive: true });
      await Deno.writeTextFile(join(folder, path), text);
    };
    const { fmt, lint, exclude } = config;
    await write("deno.json", `${JSON.stringify({ fmt, lint, exclude }, null, 2)}\n`);
    for (const path of lint.include) {
      await write(path.endsWith(".ts") ? path : `${path}/mod.ts`, "export const x = 1;\n");
    }
    for (const path of ["README.md", "docs/topic.md"]) await write(path, "# Title\n");
    for (const path of ["mine.ts", "models/mine/convert.ts", "demo-output/mine.ts"]) {
      await write(path, "debugger\nexport const x : string = 1 as any");
    }
    await write("job.json", '{"a":   1}');
    await write("demo-output/notes.md", "*  a list   ");
    const failing = async () => {
      const failed = [];
      for (const args of GATES.filter(([gate]) => gate !== "install")) {
        const { success } = await new Deno.Command(Deno.execPath(), { args: [...args], cwd: folder })
          .output();
        if (!success) failed.push(args[0]);
      }
      return failed;
    };
    assert.deepEqual(await failing(), []);
    await write("src/mod.ts", "debugger\nexport const x : string = 1 as any");
    assert.deepEqual(await failing(), ["fmt", "lint"]);
    await write("src/mod.ts", "export const x: string = 1;\n");
    assert.deepEqual(await failing(), ["check"]);
    const example = "console.log(1);\nthrow new Error();";
    await write(
      "src/mod.ts",
      `/**\n * \`\`\`ts\n * ${example.replace("\n", "\n * ")}\n * \`\`\`\n */\nexport const x = 1;\n`,
    );
    assert.deepEqual(await failing(), ["test"]);
  }));

Deno.test("deno task check looks at the folders that deno task test looks at, and all of them are formatted", () => {
  for (const path of config.lint.include) assert.ok(config.fmt.include.includes(path), path);
  const { command } = config.tasks.check;
  assert.ok(command.endsWith(` ${config.lint.include.join(" ")}`), command);
});
