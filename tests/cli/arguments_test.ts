import assert from "node:assert/strict";
import { parseCommand } from "../../src/cli/_arguments.ts";
import { InputError } from "../../src/errors.ts";

const usage = "main.ts bake [--hot] [--salt GRAMS] bread";
const parse = (...args: string[]) =>
  parseCommand(args, usage, {
    hot: { type: "boolean", default: false },
    salt: { type: "string", default: "9" },
  }, 1);

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
  assert.deepEqual(parsed?.positionals, ["rye"]);
  assert.equal(parse("--salt=-1", "--", "--rye")?.values.salt, "-1");
});

for (const args of [["--help"], ["-h"], ["--salt", "1", "--help", "a", "b"]]) {
  Deno.test(`parseCommand() prints the usage for ${args.join(" ")}`, () => {
    assert.deepEqual(printed(() => assert.equal(parse(...args), null)), [`Usage: ${usage}`]);
  });
}

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
  [[], "Give 1 argument, not 0.", "1 argument"],
];
for (const [args, sentence, accepted] of refusals) {
  Deno.test(`parseCommand() refuses ${args.join(" ") || "nothing"}`, () => {
    assert.throws(() => parse(...args), (error) => {
      assert.ok(error instanceof InputError);
      assert.ok(error.message.startsWith(sentence), error.message);
      assert.ok(error.message.endsWith(`\nUsage: ${usage}`), error.message);
      assert.equal(error.problem.accepted, accepted);
      return true;
    });
  });
}
