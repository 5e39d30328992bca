import { Wish } from "./_messages.ts";
import { type ScoringWork, scoringWork } from "./journal.ts";
import type { CallName, CallOptions, Calls } from "./protocol.ts";

/** A call whose answer has not come. */
export class PendingCall {
  /** What the engine is charged with where it breaks under a step of it; null where it is no scoring call. */
  readonly work: ScoringWork | null;
  readonly wish = new Wish();
  readonly answer = Promise.withResolvers<unknown>();
  /** Workers that broke under it, or while it waited. */
  restarts = 0;
  /** Items that the caller was handed. */
  #delivered = 0;
  /** Of those, the ones that come again from a Worker that does the call anew. */
  #repeated = 0;

  constructor(
    readonly name: CallName,
    readonly request: Calls[CallName]["request"],
    readonly options: CallOptions<CallName>,
  ) {
    this.work = scoringWork(name, request);
  }

  /** Another Worker does the call anew: what the caller was handed comes again. */
  repeat(): void {
    this.#repeated = this.#delivered;
  }

  /** Hands the caller an item, unless it was handed it before. */
  deliver(item: unknown): void {
    if (this.#repeated > 0) return void this.#repeated--;
    this.#delivered++;
    const taken = this.options.onItem?.(item as never);
    if (taken instanceof Promise) void taken.then(() => this.wish.take());
    else this.wish.take();
  }
}
