import { InputError } from "../errors.ts";

/**
 * Refuses a step's metrics where one is not finite.
 *
 * @param step that the metrics are of
 * @throws {InputError}
 */
export function checkFinite(
  metrics: Readonly<Record<string, number>>,
  step: number,
  learning_rate: number,
): void {
  const bad = Object.entries(metrics).find(([, value]) => !Number.isFinite(value));
  if (!bad) return;
  const [name, value] = bad;
  if (step > 1 || name.startsWith("eval_")) throw diverged(name, value, step, learning_rate);
  // A step's own metrics are of the weights before its update: no learning rate has had a part in the first.
  throw new InputError(
    `${name} at step 1 is ${value} before anything was learned: the weights that the run begins with make numbers too ` +
      "large for f32.",
    { path: ["model"], accepted: "a model, and an adapter, whose activations and gradients are finite" },
  );
}

/** The error of a run whose tensor or metric is not finite. */
export function diverged(name: string, value: number, step: number, learning_rate: number): InputError {
  return new InputError(`Training diverged: ${name} at step ${step} is ${value}.`, {
    path: ["learning_rate"],
    value: learning_rate,
    accepted: "a lower learning rate, or max_grad_norm above 0",
  });
}
