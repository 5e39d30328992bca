/** The user's mistakes as the command line prints them. */
import { boundedText } from "./bounded.ts";
import type { InputError } from "./errors.ts";

/** What the parts are cut to: as in an answer over HTTP, but with room for a command's usage behind the sentence. */
const mostCharacters = 2000;

/** An error's message; a long one is cut, and what would be accepted, which the cut may have taken, stands behind it. */
export function toldMistake({ message, problem: { accepted } }: InputError): string {
  const told = boundedText(message, mostCharacters);
  if (told === message || accepted === undefined) return told;
  return `${told}\nAccepted: ${boundedText(accepted, mostCharacters)}`;
}
