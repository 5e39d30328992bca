import type { Gpu } from "../src/gpu/mod.ts";
import { contest, fastest, submitContender } from "./_contest.ts";
import { referenceProducts, referenceSize } from "./matmul.ts";
import { type BenchRow, type Findings, median, medianRatio, reach, type Settings } from "./_rows.ts";
import { STEPS } from "./_workloads.ts";

/** The figures that each step of `_workloads.ts` gives, in its order: whole training, LoRA training, scoring. */
const REACHES = ["skeleton", "training utilisation", "scoring utilisation"] as const;

/** Speed and memory of whole steps, beside the rate of the matrix products in alternating rounds. */
export async function benchSteps(gpu: Gpu, settings: Settings): Promise<Findings> {
  const rows: BenchRow[] = [];
  const products = referenceProducts(gpu);
  for (const [i, [name, make]] of Object.entries(STEPS).entries()) {
    const { step, model, free } = await make(gpu);
    const times = await contest(settings, { step: submitContender(gpu, step.submit), ...products });
    // by the fastest layout, though a training step needs all three
    const best = fastest(times, ["NT", "NN", "TN"])!;
    const product = products[best];
    const flops = REACHES[i] === "skeleton" ? step.matmul_flops : step.model_flops;
    const detail =
      `random Llama of ${(model.parameters / 1e6).toFixed(1)} M parameters, ${step.tokens} tokens, ` +
      `${step.rows} of them scored, median of ${settings.rounds}`;
    rows.push(
      { name, value: step.tokens / median(times.step) * 1000, unit: "tokens/s", shown: true, detail },
      {
        name: `buffers of a ${name}`,
        value: step.bytes / 2 ** 20,
        unit: "MiB",
        shown: true,
        detail: "beside weights and optimiser",
      },
      reach(
        REACHES[i]!,
        medianRatio(times[best], times.step) * flops / product.flops,
        `${(flops / 1e9).toFixed(1)} GFLOP in ${median(times.step).toFixed(0)} ms against ${
          (product.flops / median(times[best]) / 1e6).toFixed(1)
        } GFLOP/s at ${referenceSize(gpu)}^3 ${best}; ${detail}`,
      ),
    );
    if (REACHES[i] === "training utilisation") {
      const host: number[] = [];
      for (let round = 0; round < settings.rounds; round++) host.push(await step.host());
      const share = median(host) / median(times.step);
      const ms = median(host).toFixed(2);
      rows.push(reach("host time", share, `${ms} ms, as if the GPU waited for all of it; ${detail}`));
    }
    free();
  }
  for (const product of Object.values(products)) product.free();
  return { rows };
}
