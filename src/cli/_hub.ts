import type { Config } from "../config.ts";
import { Hub } from "../hub/hub.ts";

/** The hub of the settings. */
export function openHub({ cache, hubEndpoint, hubToken }: Config): Hub {
  return new Hub({ cache, endpoint: hubEndpoint, token: hubToken });
}
