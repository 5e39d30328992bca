/**
 * Waits for some work while a signal is listened to.
 *
 * @param onAbort called where the signal aborts before the work has ended
 * @throws what the work throws
 */
export async function listening<T>(
  signal: AbortSignal | undefined,
  onAbort: () => void,
  work: Promise<T>,
): Promise<T> {
  signal?.addEventListener("abort", onAbort);
  try {
    return await work;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}
