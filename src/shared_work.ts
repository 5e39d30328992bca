/** Work that several may wait for, done once for all of them. */
import { listening } from "./abort.ts";

interface Running<T> {
  readonly done: Promise<T>;
  readonly stop: AbortController;
  waiting: number;
}

/** Runs work by keys: who asks for a key that is being worked on waits for that, and what nobody waits for ends. */
export class SharedWork<T> {
  readonly #running = new Map<string, Running<T>>();

  /**
   * @param work is to end early when its signal aborts; work on the same key begins after it has
   * @param signal ends the waiting
   * @throws what `work` throws, or the signal's reason
   */
  async run(key: string, work: (stop: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const earlier = this.#running.get(key);
    const running = earlier?.stop.signal.aborted === false ? earlier : this.#start(key, work, earlier);
    running.waiting++;
    const { promise: left, reject: leave } = Promise.withResolvers<never>();
    const either = Promise.race([running.done, left]);
    return await listening(signal, () => leave(signal?.reason), either).finally(() => {
      if (--running.waiting === 0) running.stop.abort();
    });
  }

  #start(key: string, work: (stop: AbortSignal) => Promise<T>, earlier: Running<T> | undefined): Running<T> {
    const stop = new AbortController();
    const ended = earlier?.done.catch(() => {}) ?? Promise.resolve();
    const done = ended.then(() => work(stop.signal)).finally(() => {
      if (this.#running.get(key) === running) this.#running.delete(key);
    });
    // Those who wait hear of a failure; where nobody does any more it is no news.
    done.catch(() => {});
    const running = { done, stop, waiting: 0 };
    this.#running.set(key, running);
    return running;
  }
}
