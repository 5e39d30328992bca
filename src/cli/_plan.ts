/** A job's memory as the commands show it. */
import type { MemoryPlan } from "../engine/protocol.ts";
import { bytesText } from "../gpu/memory.ts";

/** One line: what the job takes, and how it is laid out. */
export function planSummary(plan: Omit<MemoryPlan, "bytes">): string {
  return `${bytesText(plan.total_bytes)}${availability(plan)}: ${layout(plan)}`;
}

/** The best of several plans, a line for each thing that memory is for; where the device tells nothing also the least. */
export function planTable(plans: readonly MemoryPlan[]): string {
  const best = plans[0]!;
  const least = plans.reduce((a, b) => b.total_bytes < a.total_bytes ? b : a);
  const parts = Object.entries(best.bytes).filter(([, size]) => size > 0);
  const line = (part: string, size: number) => `${part.padEnd(12)} ${bytesText(size).padStart(10)}`;
  return [
    ...parts.map(([part, size]) => line(part, size)),
    line("total", best.total_bytes) + availability(best),
    layout(best),
    ...best.available_bytes === null && least !== best ? [`or ${planSummary(least)}`] : [],
  ].join("\n");
}

function availability({ available_bytes }: Pick<MemoryPlan, "available_bytes">): string {
  return available_bytes === null ? "" : ` of ${bytesText(available_bytes)}`;
}

function layout(
  plan: Pick<MemoryPlan, "micro_batch_tokens" | "activation_recomputation">,
): string {
  return `micro-batches of ${plan.micro_batch_tokens} tokens, activations ${
    plan.activation_recomputation ? "recomputed" : "kept"
  }`;
}
