/** Who reads the jobs' folders at the moment: a deleted job's goes when the last of them has done. */
export class Uses {
  readonly #counts = new Map<string, number>();
  readonly #waiting = new Map<string, () => void>();

  /** Keeps a job's folder until it is disposed of; for what is no job's id it does nothing. */
  hold(id: string | null | undefined): Disposable {
    if (id == null) return { [Symbol.dispose]() {} };
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) this.#release(id);
        held = false;
      },
    };
  }

  /** Calls `work` when nobody reads a job's folder: at once, or after the last who does. */
  whenFree(id: string, work: () => void): void {
    if (this.#counts.has(id)) this.#waiting.set(id, work);
    else work();
  }

  #release(id: string): void {
    const count = this.#counts.get(id)! - 1;
    if (count > 0) return void this.#counts.set(id, count);
    this.#counts.delete(id);
    this.#waiting.get(id)?.();
    this.#waiting.delete(id);
  }
}
