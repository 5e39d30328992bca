import assert from "node:assert/strict";
import config from "../../deno.json" with { type: "json" };
import { meant, parseCommand } from "../../src/cli/_arguments.ts";
import { CHECKOUT } from "../../src/config.ts";
import { COMMANDS, flag, value } from "../../src/commands.ts";
import { InputError } from "../../src/errors.ts";
import { permissionFlags } from "../../src/permissions.ts";

const usage = "Usage: main.ts bake [--hot] [--salt GRAMS] bread";
const bake = {
  does: "make it crisp",
  files: ["bread"],
  options: { hot: flag("at 250 degrees"), salt: { ...value("GRAMS", "how much of it"), default: "9" } },
} as const;
const parse = (...args: string[]) => parseCommand("bake", bake, args);

/** What a call writes to stdout. */
function printed(work: () => unknown): string[] {
  const lines: string[] = [];
  const log = console.log;
  console.log = (line: string) => lines.push(line);
  try {
    work();
  } finally {
    console.log = log;
  }
  return lines;
}

Deno.test("parseCommand() gives options, their defaults and the other arguments", () => {
  const parsed = parse("--hot", "rye");
  assert.deepEqual({ ...parsed?.values }, { hot: true, salt: "9" });
  assert.deepEqual(parsed?.files, ["rye"]);
  assert.equal(parse("--salt=-1", "--", "--rye")?.values.salt, "-1");
});

for (const args of [["--help"], ["-h"], ["--salt", "1", "--help", "a", "b"]]) {
  Deno.test(`parseCommand() prints the usage and every option for ${args.join(" ")}`, () => {
    const help = [
      usage,
      "",
      "make it crisp.",
      "  --hot",
      "      at 250 degrees",
      "  --salt GRAMS",
      "      how much of it",
    ];
    assert.deepEqual(printed(() => assert.equal(parse(...args), null)), [help.join("\n")]);
  });
}

Deno.test("parseCommand() prints deno.json's version for --version", () => {
  assert.deepEqual(printed(() => assert.equal(parse("--version"), null)), [config.version]);
});

Deno.test("main.ts prints deno.json's version for --version, and what was meant for a mistyped command", async () => {
  const run = (argument: string) =>
    new Deno.Command(Deno.execPath(), {
      args: ["run", ...permissionFlags(argument, [], { get: () => undefined }), "main.ts", argument],
      cwd: CHECKOUT,
    }).output();
  const [version, mistyped] = await Promise.all([run("--version"), run("sevre")]);
  const text = new TextDecoder();
  assert.deepEqual([version.code, text.decode(version.stdout)], [0, `${config.version}\n`]);
  assert.equal(mistyped.code, 2);
  assert.match(text.decode(mistyped.stderr), /^There is no command sevre\. Did you mean serve\?\nUsage: /);
});

const refusals: [args: string[], sentence: string, accepted: string][] = [
  [
    ["--cold", "rye"],
    "--cold is not a known option; known are --hot, --salt, --help.",
    "--hot, --salt, --help",
  ],
  [["-x", "rye"], "-x is not a known option; known are --hot, --salt, --help.", "--hot, --salt, --help"],
  [["--toString", "rye"], "--toString is not a known option; known are", "--hot, --salt, --help"],
  [["--hot=1", "rye"], "--hot takes no value.", "--hot"],
  [["rye", "--salt"], "--salt needs a value: give --salt=VALUE.", "--salt=VALUE"],
  [["--salt", "--hot", "rye"], "--salt needs a value: give --salt=VALUE.", "--salt=VALUE"],
  [["--salt=1", "rye", "--salt", "2"], "--salt is given twice.", "--salt once"],
  [[], "Give 1 argument, not 0.", "1 argument"],
  [
    ["--slat", "1", "rye"],
    "--slat is not a known option; known are --hot, --salt, --help. Did you mean --salt?",
    "--hot, --salt, --help",
  ],
];
for (const [args, sentence, accepted] of refusals) {
  Deno.test(`parseCommand() refuses ${args.join(" ") || "nothing"}`, () => {
    assert.throws(() => parse(...args), (error) => {
      assert.ok(error instanceof InputError);
      assert.ok(error.message.startsWith(sentence), error.message);
      assert.ok(error.message.endsWith(`\n${usage}`), error.message);
      assert.equal(error.problem.accepted, accepted);
      return true;
    });
  });
}

Deno.test("parseCommand() refuses a command without the option that it needs, and shows that in the usage", () => {
  assert.throws(() => parseCommand("score", COMMANDS.score, ["-", "-"]), (error) => {
    assert.ok(error instanceof InputError);
    assert.match(error.message, /^--model is missing: give a model's folder under SIMPO_ROOT/);
    assert.match(error.message, /\nUsage: main\.ts score --model MODEL \[--adapter FOLDER_OR_JOB\] /);
    return true;
  });
});

Deno.test("meant() names the nearest known word, and none that is far", () => {
  const known = Object.keys(COMMANDS);
  assert.equal(meant("trian", known), " Did you mean train?");
  assert.equal(meant("--max_length", ["--max-length", "--max-prompt-length"]), " Did you mean --max-length?");
  for (const word of ["bake", "", "x".repeat(100_000)]) {
    assert.equal(meant(word, known), "", word.slice(0, 9));
  }
});
