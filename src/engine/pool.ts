import type { CallName, CallOptions, Calls, Engine } from "./protocol.ts";

/** A member of the pool, and what it is at. */
interface Member {
  readonly engine: Engine;
  /** Calls under way. */
  calls: number;
  /** Of those, jobs. */
  jobs: number;
}

/**
 * Several engines, a Worker and a device each, as one. Jobs take free slots. Other calls go where the same model was used
 * last, unless that is busy while another is idle; else to whoever has least to do. Questions about the device or its
 * memory are answered by the first: the devices are of one kind, and a job runs on one of them.
 */
export class EnginePool implements Engine {
  readonly #members: readonly Member[];
  /** Who used a model last. */
  readonly #homes = new Map<string, Member>();

  /** @param engines at least one */
  constructor(engines: readonly Engine[]) {
    this.#members = engines.map((engine) => ({ engine, calls: 0, jobs: 0 }));
  }

  get trainingSlots(): number {
    return this.#members.reduce((sum, { engine }) => sum + engine.trainingSlots, 0);
  }

  get trouble(): string | null {
    return this.#members.map(({ engine }) => engine.trouble ?? null).find((why) => why !== null) ?? null;
  }

  async call<Name extends CallName>(
    name: Name,
    request: Calls[Name]["request"],
    options?: CallOptions<Name>,
  ): Promise<Calls[Name]["result"]> {
    const member = name === "train" ? this.#withSlot() : this.#forModel(modelOf(request));
    const jobs = name === "train" ? 1 : 0;
    member.calls++;
    member.jobs += jobs;
    try {
      return await member.engine.call(name, request, options);
    } finally {
      member.calls--;
      member.jobs -= jobs;
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#members.map(({ engine }) => engine.stop()));
  }

  /** @throws {Error} where jobs hold all slots: whoever starts them counts them */
  #withSlot(): Member {
    const free = this.#members.filter(({ engine, jobs }) => jobs < engine.trainingSlots);
    if (free.length === 0) throw new Error(`All ${this.trainingSlots} training slots are taken.`);
    return leastBusy(free);
  }

  #forModel(model: string | null): Member {
    if (model === null) return this.#members[0]!;
    const idlest = leastBusy(this.#members);
    const home = this.#homes.get(model);
    const chosen = home && (home.calls === 0 || idlest.calls > 0) ? home : idlest;
    this.#homes.set(model, chosen);
    return chosen;
  }
}

function leastBusy(members: readonly Member[]): Member {
  return members.reduce((best, member) => member.calls < best.calls ? member : best);
}

function modelOf(request: Calls[CallName]["request"]): string | null {
  return request !== null && "model" in request ? request.model : null;
}
