/** Names of the Hugging Face hub: `hf://org/name@revision`. */
import { InputError } from "../errors.ts";

/** A repository at a revision. */
export interface HubName {
  readonly type: "model" | "dataset";
  /** `org/name`. */
  readonly repository: string;
  /** Branch, tag or commit. */
  readonly revision: string;
  /** Folder or file inside a data set; "" for all of it. */
  readonly path: string;
}

const SCHEME = "hf://";
const PART = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}";
const MODEL = new RegExp(`^${SCHEME}(${PART}/${PART})(?:@([^/@\\s]+))?$`);
const DATASET = new RegExp(`^${SCHEME}datasets/(${PART}/${PART})(?:@([^/@\\s]+))?(?:/(.+))?$`);
const FORMS = {
  model: "hf://org/name or hf://org/name@revision",
  dataset: "hf://datasets/org/name, with @revision and /folder where they are needed",
};

/** Whether a name means the hub; any other is relative to the root. */
export function isHubName(name: string): boolean {
  return name.startsWith(SCHEME);
}

/**
 * Reads a name of the hub. A revision's own slashes are written %2F, as in `@refs%2Fconvert%2Fparquet`.
 *
 * @throws {InputError} where it has not this form
 *
 * @example A folder of a data set
 * ```ts
 * import assert from "node:assert/strict";
 * import { parseHubName } from "./name.ts";
 * const { repository, revision, path } = parseHubName("hf://datasets/org/name@v1/default", "dataset");
 * assert.deepEqual([repository, revision, path], ["org/name", "v1", "default"]);
 * ```
 */
export function parseHubName(name: string, type: HubName["type"]): HubName {
  const [, repository, revision = "main", path = ""] = (type === "model" ? MODEL : DATASET).exec(name) ?? [];
  const decoded = decode(revision);
  if (repository === undefined || decoded === null || !isPlainPath(path) || repository.includes("..")) {
    throw new InputError((field) => `${field} must be ${FORMS[type]}, not ${JSON.stringify(name)}.`, {
      value: name,
      accepted: FORMS[type],
    });
  }
  return { type, repository, revision: decoded, path: path.replace(/\/$/, "") };
}

/** A model as PEFT and transformers name it: `org/name` and the revision that was asked for, or a folder as it was given. */
export interface ModelReference {
  readonly name: string;
  /** null: the main branch, or a folder. */
  readonly revision: string | null;
}

/** @throws {InputError} where a name of the hub is malformed */
export function modelReference(name: string): ModelReference {
  if (!isHubName(name)) return { name, revision: null };
  const { repository, revision } = parseHubName(name, "model");
  return { name: repository, revision: revision === "main" ? null : revision };
}

/** Whether a path of a repository can be a path under a folder of ours. */
export function isPlainPath(path: string): boolean {
  return !/[\\\0]/.test(path) && !path.startsWith("/") && !path.split("/").includes("..");
}

function decode(revision: string): string | null {
  try {
    const decoded = decodeURIComponent(revision);
    return /^\w[\w./+-]*$/.test(decoded) && isPlainPath(decoded) ? decoded : null;
  } catch {
    return null;
  }
}
