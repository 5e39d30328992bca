/** How the device's time is shared. */
export interface TimeShareOptions {
  /** Of the time that training and requests both want, what training gets: 0 to 1. */
  readonly trainShare?: number;
  /** Returns once the device has done what is queued: from then on its time is not training's. */
  readonly settle?: () => void;
  /** Milliseconds; a clock of a test's own. */
  readonly now?: () => number;
}

/** Measures what training and requests have of the device, and grants requests their share between two micro-batches. */
export class TimeShare {
  readonly #options: Required<TimeShareOptions>;
  /** When training got the device last. */
  #trainingSince = 0;
  /** When requests got it in this turn. */
  #openedAt = 0;
  /** When requests have had their share in this turn; no end where training does not wait. */
  #until = Infinity;
  /** Milliseconds that requests get in this turn. */
  #granted = 0;
  /** Milliseconds that requests had beyond their share in earlier turns. */
  #debt = 0;
  /** Milliseconds of the time that both wanted since training took the device. */
  #spent = { training: 0, requests: 0 };

  constructor(options: TimeShareOptions) {
    this.#options = { trainShare: 0.5, settle: () => {}, now: () => performance.now(), ...options };
  }

  /** A training run takes the device. */
  hold(): void {
    this.#trainingSince = this.#options.now();
    this.#debt = 0;
    this.#spent = { training: 0, requests: 0 };
  }

  /** The training run releases the device: requests may have all of its time. */
  release(): void {
    this.#until = Infinity;
  }

  /** What training has had of the time that requests wanted too, 0 to 1; null: they have wanted none. */
  get trained(): number | null {
    const { training, requests } = this.#spent;
    return requests === 0 ? null : training / (training + requests);
  }

  /** Milliseconds until requests have had their share. */
  get left(): number {
    return this.#until - this.#options.now();
  }

  /** Measures what training had of the device, and grants requests their share for it. */
  open(): void {
    const { trainShare, settle } = this.#options;
    settle();
    const now = this.#openedAt = this.#options.now();
    const trained = now - this.#trainingSince;
    this.#spent.training += trained;
    this.#granted = trainShare > 0 ? trained * (1 - trainShare) / trainShare : Infinity;
    this.#until = now + this.#granted - this.#debt;
  }

  /** What a batch took beyond the share is taken from the next turns; what is left of it where nobody waits is lost. */
  close(): void {
    this.#debt = Math.min(Math.max(-this.left, 0), this.#granted);
    this.#spent.requests += this.#options.now() - this.#openedAt;
  }

  /** Training goes on. */
  resume(): void {
    this.#trainingSince = this.#options.now();
  }
}
