/** The weights that a request names. */
import type { TrainingSettings } from "../src/api/settings.ts";
import { within } from "../src/errors.ts";
import type { ScoringWeights } from "../src/engine/protocol.ts";
import { resolveModel } from "../src/jobs/files.ts";
import { type OnDamage, resolveAdapter } from "../src/jobs/folder.ts";
import type { Quantization } from "../src/model/quantization.ts";
import type { Service } from "./service_context.ts";

/**
 * Finds what a request names under the root, of the hub or among the jobs.
 *
 * @param names the fields of a request
 * @throws {InputError} naming `model` or `adapter`
 */
export async function resolveWeights(
  service: Service,
  { model, adapter, quantization }: {
    readonly model: string;
    readonly adapter: string | null;
    readonly quantization: Quantization | null | undefined;
  },
): Promise<ScoringWeights> {
  const onDamage: OnDamage = (id, message) => service.store.warn(id, message);
  const sources = { ...service.config, hub: service.hub, onDamage };
  const job = jobSettings(service, adapter);
  return {
    model: await within(["model"], () => resolveModel(sources, model)),
    adapter: adapter === null
      ? null
      : await within(["adapter"], () => resolveAdapter(sources, adapter, () => job !== null)),
    quantization: quantization === undefined ? job?.quantization ?? null : quantization,
  };
}

/** The settings of the job that an `adapter` is the id of; null: it is none's. */
export function jobSettings({ store }: Service, adapter: string | null): TrainingSettings | null {
  return (adapter === null ? undefined : store.get(adapter))?.settings ?? null;
}
