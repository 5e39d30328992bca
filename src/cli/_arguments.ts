/** A command's arguments. */
import { parseArgs, type ParseArgsConfig } from "node:util";
import { InputError } from "../errors.ts";

type Options = NonNullable<ParseArgsConfig["options"]>;

/**
 * Options and positionals as `parseArgs` of node:util has them, strict; `--help` prints the usage.
 *
 * @param usage how the command is called
 * @param count how many arguments beside the options there must be
 * @returns null where the usage was asked for: the command is done
 * @throws InputError naming the argument that is wrong and what would be accepted, with the usage
 */
export function parseCommand<const Own extends Options>(
  args: readonly string[],
  usage: string,
  options: Own,
  count: number,
) {
  const refuse = (sentence: string, value: unknown, accepted: string): never => {
    throw new InputError(`${sentence}\nUsage: ${usage}`, { path: ["arguments"], value, accepted });
  };
  const config = { args: [...args], options, allowPositionals: true };
  // Node's own errors speak of more than the mistake.
  const { tokens } = parseArgs({ ...config, strict: false, tokens: true as const });
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue = false } = token;
    if (name === "help" || rawName === "-h") {
      console.log(`Usage: ${usage}`);
      return null;
    }
    if (!Object.hasOwn(options, name)) {
      const known = [...Object.keys(options), "help"].map((known) => `--${known}`).join(", ");
      refuse(`${rawName} is not a known option; known are ${known}.`, rawName, known);
    }
    const takesValue = options[name]?.type === "string";
    if (!takesValue && inlineValue) refuse(`${rawName} takes no value.`, value, rawName);
    if (takesValue && !inlineValue && (value === undefined || /^-./.test(value))) {
      const accepted = `${rawName}=VALUE`;
      refuse(`${rawName} needs a value: give ${accepted}.`, value, accepted);
    }
  }
  const parsed = parseArgs({ ...config, strict: true as const });
  const given = parsed.positionals.length;
  if (given !== count) {
    const accepted = `${count} argument${count === 1 ? "" : "s"}`;
    refuse(`Give ${accepted}, not ${given}.`, parsed.positionals, accepted);
  }
  return parsed;
}
