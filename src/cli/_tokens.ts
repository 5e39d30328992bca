/** The bearer tokens of a service. */
import { checkToken, type Config } from "../config.ts";
import { refuse } from "./_refuse.ts";

/** Far more than all tokens take: a file of another kind is not read whole. */
const MOST_BYTES = 64 * 1024;

/**
 * The tokens of SIMPO_TOKEN and those of SIMPO_TOKEN_FILE, one a line; empty lines and spaces around them do not count.
 *
 * @throws InputError where the file cannot be read or holds none
 */
export async function readTokens(
  { tokens, tokenFile }: Pick<Config, "tokens" | "tokenFile">,
): Promise<readonly string[]> {
  if (tokenFile === null) return tokens;
  const accepted = `a file of at most ${MOST_BYTES} bytes with a token a line`;
  const fail = (why: string): never => {
    const sentence = `SIMPO_TOKEN_FILE ${JSON.stringify(tokenFile)} ${why}: give ${accepted}.`;
    return refuse("SIMPO_TOKEN_FILE", tokenFile, accepted, sentence);
  };
  const found = await Deno.stat(tokenFile).catch((error) => fail(`cannot be read (${error.message})`));
  if (!found.isFile || found.size > MOST_BYTES) fail("is no such file");
  const text = await Deno.readTextFile(tokenFile).catch((error) => fail(`cannot be read (${error.message})`));
  const read = text.split("\n").map((line) => line.trim()).filter((line) => line !== "")
    .map((line) => checkToken("SIMPO_TOKEN_FILE", line));
  if (read.length === 0) fail("holds no token");
  return [...tokens, ...read];
}
