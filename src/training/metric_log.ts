import type { RunState } from "./checkpoint.ts";
import { checkFinite } from "./divergence.ts";
import type { TrainEvent } from "./request.ts";

/** What a run tells of its steps, in their order, while later ones are under way. */
export class MetricLog {
  readonly #history: RunState["history"][number][];
  #underWay: Promise<void> = Promise.resolve();

  /** @param history what earlier lives of the run have logged */
  constructor(
    private readonly emit: (event: TrainEvent) => void,
    private readonly learningRate: number,
    history: RunState["history"] = [],
  ) {
    this.#history = [...history];
  }

  /** Every metrics event so far. */
  get history(): RunState["history"] {
    return this.#history;
  }

  /** Tells what earlier lives of the run have logged. */
  repeat(): void {
    for (const { step, metrics } of this.#history) this.emit({ type: "metrics", step, metrics });
  }

  /** Tells an event after what is being logged. */
  tell(event: TrainEvent): void {
    this.#after(() => this.emit(event));
  }

  /** Logs a step's metrics once they are read, unless there are none. */
  add(step: number, read: () => Promise<Readonly<Record<string, number>>>): void {
    this.#after(async () => {
      const metrics = await read();
      if (Object.keys(metrics).length === 0) return;
      checkFinite(metrics, step, this.learningRate);
      this.#history.push({ step, metrics });
      this.emit({ type: "metrics", step, metrics });
    });
  }

  /** Waits until all finished steps are logged. @throws {InputError} where training has diverged */
  async settled(): Promise<void> {
    await this.#underWay;
  }

  #after(work: () => void | Promise<void>): void {
    this.#underWay = this.#underWay.then(work);
    this.#underWay.catch(() => {}); // whoever awaits it next hears of it
  }
}
