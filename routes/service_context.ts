/** What the routes are handed. */
import type { Config } from "../src/config.ts";
import type { Engine } from "../src/engine/protocol.ts";
import { InputError } from "../src/errors.ts";
import type { Hub } from "../src/hub/hub.ts";
import type { JobRunner } from "../src/jobs/runner.ts";
import type { JobStore } from "../src/jobs/store.ts";
import type { FloatDtype } from "../src/model/dtype.ts";

/** Writes a model with an adapter merged into its weights, in a type where one is given, until `signal` aborts. */
export type ExportMerged = (
  modelDir: string,
  adapterDir: string,
  outDir: string,
  signal: AbortSignal,
  dtype?: FloatDtype,
) => Promise<unknown>;

/** The service that the routes are the face of. */
export interface Service {
  readonly config:
    & Pick<
      Config,
      "root" | "state" | "cache" | "host" | "allowedHosts" | "tokens" | "maxBodyBytes"
    >
    & Partial<Pick<Config, "queue">>;
  readonly store: JobStore;
  /** Where `hf://` names are looked up; without it they are refused. */
  readonly hub?: Hub;
  readonly runner: JobRunner;
  /** Requests wait for it; the probes do not. */
  readonly engine: Promise<Engine>;
  /** Aborted when the worker takes no more work: event streams end, new work is refused. */
  readonly stopping: AbortSignal;
  readonly exportMerged: ExportMerged;
}

/** @throws {InputError} with status 503 once the worker stops */
export function refuseWhenStopping({ stopping }: Service): void {
  if (!stopping.aborted) return;
  throw new InputError("The worker is stopping and takes no more work: send the request again later.", {
    path: ["worker"],
    accepted: "a request to a worker that is ready, as GET /readyz says",
    status: 503,
  });
}
