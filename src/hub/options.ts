/** Where the hub is and where its files are cached. */
export interface HubOptions {
  /** Absolute folder of the cached files, made where it is missing. */
  readonly cache: string;
  /** URL without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | null;
  /** Milliseconds before the first further try; each one after waits twice as long. */
  readonly retryMs?: number;
}
