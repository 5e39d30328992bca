/** What training can minimise: a file, a shader and a place in the list each. */
import { z } from "zod";
import type { Objective } from "./objective.ts";
import { sft } from "./sft.ts";
import { simpo } from "./simpo.ts";

/** Every objective; a request that names none gets the first. */
const OBJECTIVES = [simpo, sft] as const;

/** What training minimises, every default filled in. */
export type Method = ReturnType<typeof OBJECTIVES[number]["resolve"]>;

/** `method` as a request has it. */
export const MethodSchema = z.discriminatedUnion("type", schemasOf(OBJECTIVES));

function schemasOf<T extends readonly { readonly schema: unknown }[]>(objectives: T) {
  return objectives.map(({ schema }) => schema) as { [I in keyof T]: T[I]["schema"] };
}

/** Published recipes by their names, with the type of the objective that each is for. */
export const RECIPES: Readonly<Record<string, Method["type"]>> = Object.fromEntries(
  OBJECTIVES.flatMap(({ type, recipes }) => Object.keys(recipes).map((name) => [name, type])),
);

/**
 * The objective that a method names.
 *
 * @example SimPO's margin, from a request's ratio
 * ```ts
 * import assert from "node:assert/strict";
 * import { MethodSchema, objectiveOf } from "./mod.ts";
 * const method = MethodSchema.parse({ type: "simpo", beta: 2.5, gamma_beta_ratio: 0.1 });
 * const { resolve, defaults } = objectiveOf(method);
 * assert.deepEqual({ ...resolve(method, defaults) }, {
 *   type: "simpo", beta: 2.5, gamma: 0.25, loss_type: "sigmoid", label_smoothing: 0, sft_weight: 0,
 * });
 * ```
 */
export function objectiveOf({ type }: { readonly type: string } = OBJECTIVES[0]): Objective {
  const found = OBJECTIVES.find((objective) => objective.type === type);
  if (found === undefined) throw new TypeError(`No objective is called ${type}.`); // no schema lets it through
  return found as unknown as Objective;
}
