/** Long work on a thread that serves others too. */

/** How long others wait for a turn. */
const TURN_MILLISECONDS = 10;

/**
 * Makes a function that long work calls between its steps.
 *
 * @returns what gives a promise where others are to be served before the next step, else undefined
 */
export function turns(): () => Promise<void> | undefined {
  let since = performance.now();
  return () => {
    if (performance.now() - since < TURN_MILLISECONDS) return;
    return new Promise((resolve) =>
      setTimeout(() => {
        since = performance.now();
        resolve();
      }, 0)
    );
  };
}
