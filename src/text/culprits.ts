import { folderVersion } from "../model/folder_version.ts";
import type { TextCallName, TextCalls } from "./calls.ts";
import type { Stage } from "./pulse.ts";

type Request = TextCalls[TextCallName]["request"];

/** Why a request of a kind is refused. */
interface Culprit {
  readonly error: Error;
  readonly until: number;
  count: number;
}

/** How long it is remembered: what was slow by a busy machine may be tried again. */
const REMEMBERED_MS = 10 * 60_000;
/** Culprits that are remembered at most. */
const MOST = 1000;
/** A text may be at fault where a template of the model's own or its tokenizer was used: so many must be. */
const MOST_FAULTS = 3;

/** What has taken a thread past its bounds: asked for again it is refused at once. */
export class Culprits {
  readonly #known = new Map<string, Culprit>();

  /** @throws {InputError} for a request whose model's files or template are known to be at fault */
  refuse(request: Request): void {
    if (this.#known.size === 0) return;
    const culprit = this.#known.get(keyOf(request));
    if (culprit === undefined || culprit.until < performance.now()) return;
    if (culprit.count >= MOST_FAULTS) throw culprit.error;
  }

  /** Remembers what a request was at when it passed a bound. */
  remember(request: Request, stage: Stage, error: Error): void {
    const certain = stage === "reads files" || stage === "reads a template" ||
      stage === "renders" && templateOf(request) !== null;
    const key = keyOf(request);
    const count = certain ? MOST_FAULTS : (this.#known.get(key)?.count ?? 0) + 1;
    this.#known.delete(key);
    if (this.#known.size >= MOST) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(key, { error, count, until: performance.now() + REMEMBERED_MS });
  }
}

/** The model's files as they are now, and the template that came with the request. */
function keyOf(request: Request): string {
  const folders = [
    "model" in request ? request.model : null,
    "adapter" in request ? request.adapter : null,
  ];
  const versions = folders.map((folder) => folder === null ? null : folderVersion(folder));
  return JSON.stringify([...versions, templateOf(request)]);
}

function templateOf(request: Request): string | null {
  if ("chat_template" in request) return request.chat_template ?? null;
  return "settings" in request ? request.settings.chat_template ?? null : null;
}
