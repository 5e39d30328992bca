/** The demo's side of the HTTP interface: what any client of the worker would write. */
import type { Job } from "../api/job.ts";
import type { ScoreAnswer } from "../api/score.ts";
import type { Item } from "../api/score_item.ts";
import { readServerSentEvents, type ServerSentEvent } from "./_sse.ts";

type ManyScored = Extract<ScoreAnswer, { items: unknown }>;

/** The worker answered a request with an error, or not as agreed. */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
}

/** A worker at an address. Every call ends early when `signal` aborts. */
export class Client {
  constructor(private readonly base: string, private readonly signal: AbortSignal) {}

  /**
   * Scores many prompts in one call.
   *
   * @param fields of the request beside these
   * @returns an answer an item, in the items' order
   */
  async score(
    model: string,
    items: readonly Item[],
    fields: Readonly<Record<string, unknown>> = {},
  ): Promise<ManyScored["items"]> {
    const response = await this.send("/score", { model, items, ...fields });
    const answer = await response.json() as ManyScored;
    if (answer.items.length !== items.length) {
      throw new ServiceError(`POST /score answered ${answer.items.length} items of ${items.length}.`);
    }
    return answer.items;
  }

  /** Queues a training job. */
  async train(job: unknown): Promise<Job> {
    return await (await this.send("/train", job)).json() as Job;
  }

  /** A job as it stands. */
  async job(id: string): Promise<Job> {
    return await (await this.send(`/train/${id}`)).json() as Job;
  }

  /** The trained adapter's files as one archive. */
  async adapter(id: string): Promise<Uint8Array> {
    return new Uint8Array(await (await this.send(`/train/${id}/adapter`)).arrayBuffer());
  }

  /** A job's events from its first to `done`; a connection that breaks off is taken up where it ended. */
  async *events(id: string): AsyncGenerator<ServerSentEvent> {
    let last = "0";
    for (let attempt = 0; attempt < 5; attempt++) {
      const response = await this.send(`/train/${id}/events`, undefined, { "last-event-id": last });
      // 204: the job has ended, and what came before the break was all.
      if (response.body === null) return;
      for await (const event of readServerSentEvents(response.body)) {
        if (event.id !== "") last = event.id;
        attempt = 0;
        yield event;
        if (event.event === "done") return;
      }
    }
    throw new ServiceError(`The events of job ${id} ended without "done".`);
  }

  /** Waits until the worker takes requests. */
  async ready(): Promise<void> {
    for (;;) {
      this.signal.throwIfAborted();
      const response = await fetch(`${this.base}/readyz`, { signal: this.signal }).catch(() => undefined);
      await response?.body?.cancel();
      if (response?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  private async send(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Response> {
    const response = await fetch(this.base + path, {
      signal: this.signal,
      ...(body === undefined ? { headers } : {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "content-type": "application/json", ...headers },
      }),
    });
    if (response.ok) return response;
    throw new ServiceError(
      `${body === undefined ? "GET" : "POST"} ${path} answered ${response.status}: ${await response.text()}`,
    );
  }
}
