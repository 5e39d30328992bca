import { InputError } from "../errors.ts";

/** Refuses what an argument, a setting or a file of that name says. @throws {InputError} */
export function refuse(name: string, value: unknown, accepted: string, sentence: string): never {
  throw new InputError(sentence, { path: [name], value, accepted });
}
