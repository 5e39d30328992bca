/** A command's arguments. */
import { closestMatch } from "leven";
import { parseArgs } from "node:util";
import type { Command, ValuesOf } from "../commands.ts";
import { VERSION } from "../version.ts";
import { refuse } from "./_refuse.ts";

/** Wrong letters with which a word is still taken for another. */
const MOST_SLIPS = 2;

/**
 * Options and files as `parseArgs` of node:util reads them; `--help` prints the usage and what each option does, `--version` the version.
 *
 * @param name the command's
 * @returns null where help or version was asked for: the command is done
 * @throws {InputError} naming the argument that is wrong and what would be accepted, with the usage
 */
export function parseCommand<const Own extends Command>(name: string, command: Own, args: readonly string[]) {
  const { does, files, options }: Command = command;
  const fail = (sentence: string, value: unknown, accepted: string): never =>
    refuse("arguments", value, accepted, `${sentence}\n${usageOf(name, command)}`);
  // Strict it would refuse by itself, in words of more than the mistake.
  const reading = { args: [...args], options, allowPositionals: true, tokens: true as const };
  const { tokens, values, positionals } = parseArgs({ ...reading, strict: false });
  const given = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const { name: option, rawName, value, inlineValue = false } = token;
    if (option === "help" || rawName === "-h") {
      const lines = Object.entries(options).map((option) => `  ${callOf(option)}\n      ${option[1].does}`);
      console.log([usageOf(name, command), `\n${does}.`, ...lines].join("\n"));
      return null;
    }
    if (option === "version") {
      console.log(VERSION);
      return null;
    }
    if (!Object.hasOwn(options, option)) {
      const known = [...Object.keys(options), "help"].map((known) => `--${known}`);
      const listed = known.join(", ");
      fail(
        `${rawName} is not a known option; known are ${listed}.${meant(rawName, known)}`,
        rawName,
        listed,
      );
    }
    const takesValue = options[option]?.type === "string";
    if (takesValue && given.has(option)) fail(`${rawName} is given twice.`, value, `${rawName} once`);
    given.add(option);
    if (!takesValue && inlineValue) fail(`${rawName} takes no value.`, value, rawName);
    if (takesValue && !inlineValue && (value === undefined || /^-./.test(value))) {
      const accepted = `${rawName}=VALUE`;
      fail(`${rawName} needs a value: give ${accepted}.`, value, accepted);
    }
  }
  if (positionals.length !== files.length) {
    const accepted = `${files.length} argument${files.length === 1 ? "" : "s"}`;
    fail(`Give ${accepted}, not ${positionals.length}.`, positionals, accepted);
  }
  for (const [option, { needed, does }] of Object.entries(options)) {
    if (needed && values[option] === undefined) {
      fail(`--${option} is missing: give ${does}.`, undefined, does);
    }
  }
  return { values: values as ValuesOf<Own["options"]>, files: positionals };
}

/** ` Did you mean train?`, or nothing where no known word is near. */
export function meant(word: string, known: readonly string[]): string {
  const near = closestMatch(word, known, { maxDistance: MOST_SLIPS });
  return near === undefined ? "" : ` Did you mean ${near}?`;
}

/** How a command is called, in one line. */
export function usageOf(name: string, { files, options }: Command): string {
  const calls = Object.entries(options).map((option) =>
    option[1].needed ? callOf(option) : `[${callOf(option)}]`
  );
  return ["Usage: main.ts", name, ...calls, ...files].join(" ");
}

function callOf([name, { shown }]: [string, Command["options"][string]]): string {
  return `--${name}${shown === undefined ? "" : ` ${shown}`}`;
}
