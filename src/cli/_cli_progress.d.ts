/** The part of cli-progress in use; the package carries no types of its own. */

/** How a bar looks. */
export interface Options {
  /** `{bar}`, `{value}`, `{total}` and the payload's keys in braces are filled in. */
  readonly format: string;
  readonly barsize?: number;
  readonly hideCursor?: boolean;
  /** Clear the bar's line when it stops. */
  readonly clearOnComplete?: boolean;
  /** Print a line now and then where the output is no terminal. */
  readonly noTTYOutput?: boolean;
  /** Milliseconds between those lines. */
  readonly notTTYSchedule?: number;
}

/** A bar on stderr. */
export class SingleBar {
  constructor(options: Options);
  start(total: number, startValue: number, payload?: Readonly<Record<string, string>>): void;
  update(value: number, payload?: Readonly<Record<string, string>>): void;
  setTotal(total: number): void;
  stop(): void;
}
