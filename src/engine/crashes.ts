import { join } from "node:path";
import { InputError } from "../errors.ts";
import { folderVersion } from "../model/folder_version.ts";
import type { ScoringWork } from "./journal.ts";

/** Times in a row that the engine may break under the same weights before they are refused. */
const MOST = 3;
/** Weights that are remembered; the oldest are forgotten. */
const REMEMBERED = 100;

/** How often the engine broke under some weights since they were last of use. */
interface Charge {
  readonly key: string;
  /** Of the weights' folders at the last time: other files are another try. */
  readonly version: string;
  readonly count: number;
}

/** Which weights the engine broke under while it scored with them. */
export class Crashes {
  readonly #file: string | null;
  readonly #charges: Map<string, Charge>;
  /** What is being taken note of: the next look waits for it. */
  #charging: Promise<void> | null = null;

  /** @param folder where they are kept beyond the process; null: nowhere */
  constructor(folder: string | null) {
    this.#file = folder === null ? null : join(folder, "engine-crashes.json");
    this.#charges = new Map(read(this.#file).map((charge) => [charge.key, charge]));
  }

  /** Whether there are any: a call need not wait for a look at its folders where there are none. */
  get any(): boolean {
    return this.#charges.size > 0 || this.#charging !== null;
  }

  /** Records that the engine broke under a step of a call. */
  charge(work: ScoringWork): void {
    const charging = Promise.resolve(this.#charging).then(() => this.#charge(work)).finally(() => {
      if (this.#charging === charging) this.#charging = null;
    });
    this.#charging = charging;
  }

  /** Records that a call with the weights has succeeded. */
  clear(work: ScoringWork): void {
    if (this.#charges.size === 0) return;
    const known = keysOf(work).filter((key) => this.#charges.delete(key));
    if (known.length > 0) this.#write();
  }

  /** @throws {InputError} where the engine has broken under the weights again and again */
  async check(work: ScoringWork): Promise<void> {
    await this.#charging;
    const charges = keysOf(work).flatMap((key) => this.#charges.get(key) ?? []);
    if (countOf(charges) < MOST) return;
    const version = await versionOf(work);
    const count = countOf(charges.filter((charge) => charge.version === version));
    if (count < MOST) return;
    throw new InputError(
      (field) =>
        `${field} is not used: the engine broke or hung ${count} times in a row while it scored with it.`,
      {
        path: [work.adapter === null ? "model" : "adapter"],
        accepted: "other weights, or the same folder once one of its files has changed",
      },
    );
  }

  async #charge(work: ScoringWork): Promise<void> {
    const key = keyOf(work);
    const version = await versionOf(work);
    const before = this.#charges.get(key);
    this.#charges.delete(key);
    this.#charges.set(key, { key, version, count: before?.version === version ? before.count + 1 : 1 });
    for (const oldest of this.#charges.keys()) {
      if (this.#charges.size > REMEMBERED) this.#charges.delete(oldest);
    }
    this.#write();
  }

  #write(): void {
    if (this.#file === null) return;
    try {
      Deno.writeTextFileSync(this.#file, JSON.stringify([...this.#charges.values()]), { mode: 0o600 });
    } catch {
      // Without room they are known to this process alone.
    }
  }
}

function read(file: string | null): Charge[] {
  if (file === null) return [];
  try {
    const charges: Charge[] = JSON.parse(Deno.readTextFileSync(file));
    return charges.filter(({ key, version, count }) =>
      typeof key === "string" && typeof version === "string" && Number.isInteger(count)
    );
  } catch {
    return [];
  }
}

function keyOf({ name, model, adapter, quantization }: ScoringWork): string {
  return JSON.stringify([name, model, adapter, quantization]);
}

/** Those that speak against some work: its own, and that of loading its weights. */
function keysOf(work: ScoringWork): string[] {
  return [...new Set([keyOf(work), keyOf({ ...work, name: "load" })])];
}

function countOf(charges: readonly Charge[]): number {
  return charges.reduce((sum, { count }) => sum + count, 0);
}

async function versionOf({ model, adapter }: ScoringWork): Promise<string> {
  return `${await folderVersion(model)} ${adapter === null ? "" : await folderVersion(adapter)}`;
}
