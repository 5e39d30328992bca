/** The command line. Each command's code is loaded when it is called for. */
import { meant } from "./src/cli/_arguments.ts";
import { COMMANDS } from "./src/commands.ts";
import { readConfig, variablesOf } from "./src/config.ts";
import { warmUp } from "./src/engine/spawn.ts";
import { InputError } from "./src/errors.ts";
import { toldMistake } from "./src/told_mistake.ts";
import { VERSION } from "./src/version.ts";

function usage(): string {
  const calls = Object.entries(COMMANDS).map(([name, { files, does }]) => [[name, ...files].join(" "), does]);
  const width = Math.max(...calls.map(([call]) => call!.length));
  return `Usage: deno task COMMAND

${calls.map(([call, does]) => `  ${call!.padEnd(width)}  ${does}`).join("\n")}

COMMAND --help says how a command is called, --version which version this is.
Settings are environment variables: ${variablesOf(readConfig).join(", ")}.`;
}

/** Runs a command. @returns the exit code */
async function main([command, ...args]: readonly string[]): Promise<number> {
  switch (command) {
    case "serve": {
      warmUp();
      const [{ serve }, { startEngine }, { mergeAside }] = await Promise.all([
        import("./src/cli/serve.ts"),
        import("./src/engine/client.ts"),
        import("./src/engine/merge.ts"),
      ]);
      return await serve(args, { startEngine, exportMerged: mergeAside });
    }
    case "train": {
      warmUp();
      const [{ train }, { startEngine }] = await Promise.all([
        import("./src/cli/train.ts"),
        import("./src/engine/client.ts"),
      ]);
      return await train(args, startEngine);
    }
    case "plan": {
      const [{ plan }, { startEngine }] = await Promise.all([
        import("./src/cli/plan.ts"),
        import("./src/engine/client.ts"),
      ]);
      return await plan(args, startEngine);
    }
    case "inspect": {
      const { inspect } = await import("./src/cli/inspect.ts");
      return await inspect(args);
    }
    case "score": {
      warmUp();
      const [{ score }, { startEngine }] = await Promise.all([
        import("./src/cli/score.ts"),
        import("./src/engine/client.ts"),
      ]);
      return await score(args, startEngine);
    }
    case "doctor": {
      const [{ doctor }, { startEngine }] = await Promise.all([
        import("./src/cli/doctor.ts"),
        import("./src/engine/client.ts"),
      ]);
      return await doctor(args, startEngine);
    }
    case "demo": {
      const { demo } = await import("./src/cli/demo.ts");
      return await demo(args);
    }
    case "help":
    case "--help":
    case "-h":
      console.log(usage());
      return 0;
    case "--version":
      console.log(VERSION);
      return 0;
    default: {
      const known = Object.keys(COMMANDS);
      const mistake = command === undefined
        ? "A command is missing."
        : `There is no command ${command}.${meant(command, known)}`;
      throw new InputError(`${mistake}\n${usage()}`, {
        path: ["command"],
        value: command,
        accepted: known.join(" | "),
      });
    }
  }
}

/** What is told of a failure: the user's mistake needs a sentence, ours a stack. */
function told(error: unknown): unknown {
  if (error instanceof InputError) return toldMistake(error);
  if (error instanceof Deno.errors.NotCapable) {
    const [what] = error.message.split(", run again with");
    return `${what}: deno task permits a command what its settings and arguments name.`;
  }
  return error;
}

let code: number;
try {
  code = await main(Deno.args);
} catch (error) {
  console.error(told(error));
  code = error instanceof InputError ? 2 : 1;
}
Deno.exit(code);
