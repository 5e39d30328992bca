import type { Gpu } from "../src/gpu/mod.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { unsharedGroups, withoutSharedPrompt } from "../src/preference/pack.ts";
import { type Contender, contest, workContender } from "./_contest.ts";
import { randomModel } from "./_model.ts";
import { type BenchRow, type Findings, median, medianRatio, reach, type Settings } from "./_rows.ts";
import { prepareStep, type Step } from "./_step.ts";
import { candidates, LORA, pairs, sizesFor } from "./_workloads.ts";

/** Large enough that logits weigh what they weigh in models in use, small enough for one binding of the software driver. */
const VOCABULARY = 16_384;

/** What shared prompts, packing, the head without stored logits and recomputation save, each switched by itself. */
export async function benchAblations(gpu: Gpu, settings: Settings): Promise<Findings> {
  return { rows: [...await trainingAblations(gpu, settings), ...await sharedCandidates(gpu, settings)] };
}

async function trainingAblations(gpu: Gpu, settings: Settings): Promise<BenchRow[]> {
  const quick = settings.extent === "quick";
  const sizes = { ...sizesFor(gpu), vocab_size: VOCABULARY, ...(quick && { num_hidden_layers: 2 }) };
  const model = await randomModel(gpu, sizes, LORA);
  const groups = pairs(2);
  const whole = { mode: "train", logits_bytes: Infinity } as const;
  const switched = {
    "as it is": [prepareStep(gpu, model, groups, { mode: "train" })],
    "without shared prompts": [prepareStep(gpu, model, groups.flatMap(unsharedGroups), { mode: "train" })],
    // the second batch reuses the buffers of the first, as a training loop would
    "without packing (a pair a batch)": twice(prepareStep(gpu, model, groups.slice(0, 1), { mode: "train" })),
    "with the scored tokens' logits kept whole": [prepareStep(gpu, model, groups, whole)],
    "recomputing activations": [prepareStep(gpu, model, groups, { mode: "train", recompute: true })],
    plain: twice(prepareStep(gpu, model, [everyTokenScored(groups[0]!)], whole)),
  };
  const contenders = Object.fromEntries(
    // a quick run has time for what the target compares
    Object.entries(switched).filter(([name]) => !quick || name === "as it is" || name === "plain").map((
      [name, steps],
    ): [string, Contender] => [
      name,
      workContender(async () => {
        for (const step of steps) await step.run();
      }),
    ]),
  );
  const times = await contest(settings, contenders);
  const detail = `LoRA r 16, random Llama of ${
    (model.parameters / 1e6).toFixed(1)
  } M parameters (vocabulary ${VOCABULARY}), 2 pairs a step; median of ${settings.rounds} alternating rounds`;
  const ours = switched["as it is"][0]!;
  const rows: BenchRow[] = Object.entries(switched).filter(([name]) => name in times && name !== "plain")
    .flatMap((
      [name, steps],
    ) => [
      { name: `pairs, training step ${name}`, value: median(times[name]!), unit: "ms", detail },
      { name: `pairs, buffers ${name}`, value: steps[0]!.bytes / 2 ** 20, unit: "MiB", detail },
    ]);
  rows.push(
    reach("pairs, time", medianRatio(times["as it is"]!, times.plain!), detail),
    reach("pairs, bytes", ours.bytes / 2 / switched.plain[0]!.bytes, `for a pair; ${detail}`),
  );
  for (const step of new Set(Object.values(switched).flat())) step.free();
  model.free();
  return rows;
}

function twice(step: Step): Step[] {
  return [step, step];
}

/** Each response after a prompt of its own, logits for every token, as a plain causal model's forward has it. */
function everyTokenScored(group: EncodedGroup): EncodedGroup {
  const { responses, ...rest } = withoutSharedPrompt(group);
  return { ...rest, responses: responses.map((response) => ({ ...response, scored_from: 1 })) };
}

async function sharedCandidates(gpu: Gpu, settings: Settings): Promise<BenchRow[]> {
  const model = await randomModel(gpu, sizesFor(gpu), "nothing");
  const groups = candidates(16);
  const shared = prepareStep(gpu, model, groups, { mode: "score" });
  const apart = prepareStep(gpu, model, groups.flatMap(unsharedGroups), { mode: "score" });
  const times = await contest(settings, {
    shared: workContender(shared.run),
    apart: workContender(apart.run),
  });
  const detail = `${shared.tokens} tokens against ${apart.tokens} in one batch, random Llama of ${
    (model.parameters / 1e6).toFixed(1)
  } M parameters, ${median(times.shared).toFixed(0)} ms; median of ${settings.rounds} alternating rounds`;
  for (const step of [shared, apart]) step.free();
  model.free();
  return [reach("candidates", medianRatio(times.apart, times.shared), detail)];
}
