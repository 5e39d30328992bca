import type { FromWorker, ToWorker } from "./_messages.ts";
import { Heartbeat } from "./heartbeat.ts";
import { Watchdog, type Watched } from "./watchdog.ts";

/** What a thread's owner is told. */
export interface ThreadOwner extends Pick<Watched, "limits" | "impatient"> {
  readonly onMessage: (message: FromWorker) => void;
  /** Called where the Worker has broken or hangs, with a sentence of what it is. */
  readonly onBroken: (why: string) => void;
}

/** The Worker that owns the GPU, with what watches over it. */
export class EngineThread {
  readonly #heartbeat = new Heartbeat();
  readonly #watchdog: Watchdog;

  /** @param open the first message, but for the heartbeat */
  constructor(
    private readonly worker: Worker,
    open: Omit<Extract<ToWorker, { type: "open" }>, "type" | "heartbeat">,
    { onMessage, onBroken, ...watched }: ThreadOwner,
  ) {
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => onMessage(data);
    worker.onerror = (event) => {
      event.preventDefault();
      onBroken(`The GPU worker broke: ${event.message}.`);
    };
    this.post({ type: "open", ...open, heartbeat: this.#heartbeat.buffer });
    this.#watchdog = new Watchdog({ ...watched, heartbeat: this.#heartbeat, onStuck: onBroken });
  }

  /** The scoring call whose step is under way. */
  get call(): number | null {
    return this.#heartbeat.call;
  }

  post(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  /** Takes no notice of the thread any more. */
  ignore(): void {
    this.unwatch();
    this.worker.onmessage = null;
    this.worker.onerror = (event) => event.preventDefault();
  }

  /** Stops watching a thread that is about to end. */
  unwatch(): void {
    this.#watchdog[Symbol.dispose]();
  }

  terminate(): void {
    this.worker.terminate();
  }
}
