/** What goes wrong with the hub, and what its user is told of it. */
import { InputError } from "../errors.ts";
import type { HubName } from "./name.ts";
import type { HubOptions } from "./options.ts";

/** The hub's own refusal of a file. */
export class HttpError extends Error {
  constructor(readonly status: number) {
    super(`the hub answers ${status}`);
  }
}

/** A connection that broke or was never made. */
export class NetworkError extends Error {}

/** An answer that cannot be used; asking again does not help. */
export class Refusal extends Error {}

/** Whether the same request may have another answer soon. */
export function isTransient(error: unknown): boolean {
  if (error instanceof HttpError) return error.status >= 500 || error.status === 408 || error.status === 429;
  return error instanceof NetworkError;
}

/**
 * What went wrong, in a sentence that says what to do; what is nobody's mistake stays what it is.
 *
 * @param file Its path in the repository; unless given it is the repository that cannot be read
 * @returns The error to throw
 */
export function explain(
  error: unknown,
  options: HubOptions,
  name: HubName,
  file?: string,
): unknown {
  if (error instanceof InputError) return error;
  const { endpoint, token, cache } = options;
  const { type, repository, revision } = name;
  const refuse = (message: string, accepted: string, status = 422) =>
    new InputError(message, { value: repository, accepted, status });
  const what = `${file === undefined ? "" : `${file} of `}the ${type} ${repository}`;
  const { status, statusCode = status, code } = error as {
    status?: number;
    statusCode?: number;
    code?: string;
  };
  if (statusCode === 401 || statusCode === 403) {
    const access = token === null ? "set HF_TOKEN to a token" : "HF_TOKEN must be a token";
    return refuse(
      `The hub does not give out ${what} (${statusCode}): where it exists it is private or gated, and ${access} whose ` +
        "account has been granted access.",
      "a public repository, or HF_TOKEN with access to this one",
    );
  }
  if (statusCode === 404) {
    return refuse(
      `The hub does not have ${what} at revision ${revision}.`,
      "a repository and revision of the hub",
      404,
    );
  }
  if (statusCode !== undefined) {
    return refuse(`The hub answers ${statusCode} for ${what}: try again later.`, "a hub that answers", 503);
  }
  if (error instanceof Refusal) return refuse(`${what} ${error.message}.`, "files as the hub lists them");
  const [, host] = error instanceof Deno.errors.NotCapable
    ? /net access to "(.+?)"/.exec(error.message) ?? []
    : [];
  if (host !== undefined) {
    return refuse(
      `The hub at ${endpoint} sends on to ${host} for ${what}, where the worker may not connect to: add it to SIMPO_HOSTS.`,
      "a hub whose hosts HF_ENDPOINT and SIMPO_HOSTS name",
    );
  }
  if (code === "ENOSPC" || code === "EDQUOT") {
    return refuse(`There is no room for ${what} in SIMPO_CACHE, ${cache}.`, "a folder with enough room", 507);
  }
  if (code === "EACCES" || code === "EROFS" || error instanceof Deno.errors.PermissionDenied) {
    return refuse(`SIMPO_CACHE ${cache} cannot be written to.`, "a folder that this process may write to");
  }
  if (error instanceof NetworkError || error instanceof TypeError) {
    return refuse(
      `The hub at ${endpoint} cannot be reached for ${what}: ${error.message}.`,
      "a network with the hub in reach, or files under the root",
      503,
    );
  }
  return error;
}
