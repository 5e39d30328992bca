/** The adapter that a job goes on from: a folder, or what an earlier job has learned. */
import { isDeepStrictEqual } from "node:util";
import type { JobRequest } from "../api/job.ts";
import { InputError, within } from "../errors.ts";
import { hasAdapter } from "../model/adapter.ts";
import { textThread } from "../text/thread.ts";
import { type FileSources, resolveModelConfig, resolveTokenizer } from "./files.ts";
import { type OnDamage, resolveAdapter } from "./folder.ts";
import type { JobStore } from "./store.ts";

const PATH = ["lora", "init_adapter"];

/** Where names are looked up. */
interface Folders extends FileSources {
  readonly state: string;
  readonly store: JobStore;
}

/**
 * The folder that `lora.init_adapter` means.
 *
 * @throws {InputError} where there is none, or it holds no adapter
 */
export async function resolveInitAdapter(folders: Folders, name: string): Promise<string> {
  const isJob = (id: string) => folders.store.get(id) !== undefined;
  const onDamage: OnDamage = (id, message) => folders.store.warn(id, message);
  const folder = await within(PATH, () => resolveAdapter({ ...folders, onDamage }, name, isJob));
  if (await hasAdapter(folder)) return folder;
  throw new InputError((field) => `${field} ${JSON.stringify(name)} holds no adapter.`, {
    path: PATH,
    value: name,
    accepted: "a folder with adapter_config.json, or a job that trained an adapter",
  });
}

/**
 * Fills in the form of the adapter that a job goes on from (its rank, scale, dropout and modules) and the chat template
 * beside it.
 *
 * @returns the request itself where it names no adapter
 * @throws {InputError} where the adapter cannot be used with the model, or has another form than the request asks for
 */
export async function withInitAdapter(request: JobRequest, folders: Folders): Promise<JobRequest> {
  const { lora } = request;
  if (lora?.init_adapter == null) return request;
  const folder = await resolveInitAdapter(folders, lora.init_adapter);
  const model = await within(["model"], () => resolveModelConfig(folders, request.model));
  const form = await textThread().call("adapter_form", { adapter: folder, model, lora });
  return { ...request, chat_template: await templateOf(request, folder, folders), lora: form };
}

/**
 * The template that a job goes on with: of the adapter's, the one that is asked for by its name or else the default; null
 * where its several are the model's own, of which the rows' tools choose. Text that names none is as it was given.
 *
 * @throws {InputError} where the adapter has several of its own, and which one the rows take would depend on their tools
 */
async function templateOf(
  { chat_template: asked, model }: JobRequest,
  folder: string,
  folders: Folders,
): Promise<string | null> {
  const templates = await templatesOf(folder);
  if (asked != null) return templates?.get(asked) ?? asked;
  if (templates === null) return null;
  const names = [...templates.keys()];
  if (String(names) === "default") return templates.get("default")!;
  const base = await within(["model"], () => resolveTokenizer(folders, model));
  if (isDeepStrictEqual(await templatesOf(base), templates)) return null;
  const accepted = names.map((name) => `"${name}"`).join(" or ");
  throw new InputError(
    (field) =>
      `${field} is left out, but the adapter that training goes on from has several: give ${accepted}.`,
    { path: ["chat_template"], accepted },
  );
}

async function templatesOf(folder: string): Promise<ReadonlyMap<string, string> | null> {
  return await textThread().call("templates", { model: folder });
}
