import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Gpu } from "../src/gpu/mod.ts";
import { parseJobSpec } from "../src/jobs/spec.ts";
import { datasetOf } from "../tests/helpers/settings.ts";
import { loadTokenizer } from "../src/preference/tokenizer.ts";
import { train } from "../src/training/job.ts";
import { writeTokens } from "../src/training/write_tokens.ts";
import { Random } from "../src/training/random.ts";
import { randomModel, writeRandomWeights } from "./_model.ts";
import { type Findings, median, reach, type Settings } from "./_rows.ts";
import { sizesFor } from "./_workloads.ts";

const TOKENIZER = fileURLToPath(new URL("../examples/tiny-llama", import.meta.url));
const WARM_UP = 2;
const STEPS = { quick: 4, usual: 16, full: 32 };
const BATCH = 4;

/**
 * What of a training run's time the device stands still for the host: rows of mixed lengths through `train()`, each step
 * logged. Counted from where a wait finds the device's queue empty to the next submission. It says nothing of a queue that
 * runs empty between two waits, for which the host's own time of a step would have to pass the device's.
 */
export async function benchHostWait(gpu: Gpu, { extent }: Settings): Promise<Findings> {
  const steps = STEPS[extent];
  const model = await randomModel(gpu, sizesFor(gpu), "nothing");
  const directory = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  const filled: number[] = [];
  let [begin, end] = [0, 0];
  let waited = 0;
  using _idle = watchIdle((milliseconds) => {
    if (begin > 0 && end === 0) waited += milliseconds;
  });
  try {
    await writeRandomWeights(join(directory, "model.safetensors"), model.config);
    const request = {
      id: "bench",
      model: directory,
      dataset: datasetOf(rowsOfMixedLengths(BATCH * (WARM_UP + steps + 1))),
      eval_dataset: null,
      settings: parseJobSpec({
        model: "random",
        dataset: { path: "none" },
        batch_size: BATCH,
        lora: { r: 16 },
        max_length: 640,
        max_prompt_length: 512,
      }).settings,
      init_adapter: null,
      directory,
    };
    const tokenizer = await loadTokenizer(TOKENIZER);
    await train({
      gpu,
      config: model.config,
      tokenise: async (settings) => {
        const pause = () => Promise.resolve();
        await writeTokens({ config: model.config, tokenizer, emit: () => {}, pause }, request, settings);
      },
      loadBase: () => Promise.resolve(model.decoder),
      onLoad: () => {},
      room: () => Promise.resolve(null),
      makeRoom: () => false,
      emit: (event) => {
        if (event.type === "metrics" && begin > 0) filled.push(event.metrics["fill_rate"]!);
        if (event.type !== "progress") return;
        if (event.step === WARM_UP) begin = performance.now();
        if (event.step === WARM_UP + steps) end = performance.now();
      },
      between: async () => {
        await new Promise((resolve) => setTimeout(resolve, 0)); // as the Worker lets messages in
        return end > 0 ? "cancel" : "continue";
      },
    }, request);
  } finally {
    model.free();
    await Deno.remove(directory, { recursive: true });
  }
  const step = (end - begin) / steps;
  const detail = `train(), LoRA r 16, ${BATCH} pairs of mixed lengths a step, ${steps} steps of ${
    step.toFixed(0)
  } ms`;
  return {
    rows: [
      reach("host wait", waited / (end - begin), detail),
      { name: "host wait a training step", value: waited / steps, unit: "ms", detail },
      { name: "micro-batches: fill rate", value: median(filled), unit: "of the room", detail },
    ],
  };
}

/** Tells how long the device's queue was empty before each submission that follows a wait, in milliseconds. */
function watchIdle(tell: (milliseconds: number) => void): Disposable {
  const [queue, buffer] = [GPUQueue.prototype, GPUBuffer.prototype];
  const { onSubmittedWorkDone, submit } = queue;
  const { mapAsync } = buffer;
  let empty: number | null = null;
  // Deno's calls themselves block until the queue is empty
  queue.onSubmittedWorkDone = function () {
    const answer = onSubmittedWorkDone.call(this);
    empty = performance.now();
    return answer;
  };
  buffer.mapAsync = function (...range) {
    const answer = mapAsync.apply(this, range);
    empty = performance.now();
    return answer;
  };
  queue.submit = function (commands) {
    if (empty !== null) tell(performance.now() - empty);
    empty = null;
    return submit.call(this, commands);
  };
  return {
    [Symbol.dispose]: () => {
      Object.assign(queue, { onSubmittedWorkDone, submit });
      Object.assign(buffer, { mapAsync });
    },
  };
}

/** Pairs of words: prompts of 30 to 500 tokens, responses of 10 to 130. */
function rowsOfMixedLengths(count: number): unknown[] {
  const random = new Random(5);
  const words = ["which ", "letters ", "is ", "smaller ", "twice ", "seven ", "backwards "];
  const text = (least: number, most: number) => {
    const length = least + Math.floor(random.next() * (most - least));
    return Array.from({ length }, () => words[Math.floor(random.next() * words.length)]).join("");
  };
  return Array.from({ length: count }, () => ({
    prompt: text(10, 160),
    chosen: text(3, 40),
    rejected: text(3, 40),
  }));
}
