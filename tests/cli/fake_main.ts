/** The commands as processes, with a fake engine: `fake_main.ts STEP_MS COMMAND …`. Below 0 it breaks at step 3; NaN: no device answers. */
import { doctor } from "../../src/cli/doctor.ts";
import { score } from "../../src/cli/score.ts";
import { serve } from "../../src/cli/serve.ts";
import { train } from "../../src/cli/train.ts";
import type { StartEngine } from "../../src/cli/_command.ts";
import { DeviceLostError, InputError } from "../../src/errors.ts";
import { toldMistake } from "../../src/told_mistake.ts";
import { FakeEngine, refusal } from "../helpers/fake_engine.ts";

const [stepMs, command, ...args] = Deno.args;
const startEngine: StartEngine = ({ onBroken, leaveThread }) => {
  if (!leaveThread) throw new Error("the process ends after its engine: the thread is to stay");
  if (stepMs === "NaN") {
    return new Promise((_, reject) => setTimeout(() => reject(refusal("SIMPO_DEVICE")), 0));
  }
  const engine = new FakeEngine({
    steps: 5,
    beforeStep: async (_, step) => {
      await new Promise((resolve) => setTimeout(resolve, Math.abs(Number(stepMs))));
      if (step < 3 || Number(stepMs) >= 0) return;
      const error = new DeviceLostError("The GPU worker broke: test.");
      onBroken?.(error);
      throw error;
    },
  });
  engine.failing.set("bad", refusal({ file: "config.json" }, "hidden_size"));
  return Promise.resolve(engine);
};

try {
  switch (command) {
    case "serve":
      Deno.exit(await serve(args, { startEngine, exportMerged: () => Promise.resolve() }));
      break;
    case "train":
      Deno.exit(await train(args, startEngine));
      break;
    case "score":
      Deno.exit(await score(args, startEngine));
      break;
    case "doctor":
      Deno.exit(await doctor(args, startEngine));
  }
} catch (error) {
  console.error(error instanceof InputError ? toldMistake(error) : error);
  Deno.exit(error instanceof InputError ? 2 : 1);
}
