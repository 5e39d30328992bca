import { Wish } from "./_messages.ts";
import { type ScoringWork, scoringWork } from "./journal.ts";
import type { CallName, CallOptions, Calls, LoadProgress } from "./protocol.ts";

/** A call whose answer has not come. */
export class PendingCall {
  readonly name: CallName;
  readonly request: Calls[CallName]["request"];
  /** What the engine is charged with where it breaks under a step of it; null where it is no scoring call. */
  readonly work: ScoringWork | null;
  readonly wish = new Wish();
  /** Workers that broke under it, or while it waited. */
  restarts = 0;
  readonly #answer = Promise.withResolvers<unknown>();
  readonly #options: CallOptions<CallName>;
  /** Items that the caller was handed. */
  #delivered = 0;
  /** Of those, the ones that come again from a Worker that does the call anew. */
  #repeated = 0;

  constructor(name: CallName, request: Calls[CallName]["request"], options: CallOptions<CallName>) {
    this.name = name;
    this.request = request;
    this.work = scoringWork(name, request);
    this.#options = options;
  }

  get answer(): Promise<unknown> {
    return this.#answer.promise;
  }

  resolve(value: unknown): void {
    this.#answer.resolve(value);
  }

  reject(error: Error): void {
    this.#answer.reject(error);
  }

  /** Another Worker does the call anew: what the caller was handed comes again. */
  repeat(): void {
    this.#repeated = this.#delivered;
  }

  deliver(item: unknown): void {
    if (this.#repeated > 0) return void this.#repeated--;
    this.#delivered++;
    const taken = this.#options.onItem?.(item as never);
    if (taken instanceof Promise) void taken.then(() => this.wish.take());
    else this.wish.take();
  }

  reportLoading(progress: LoadProgress): void {
    this.#options.onLoading?.(progress);
  }
}
