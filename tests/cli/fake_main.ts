/** The commands as processes, with a fake engine: `fake_main.ts STEP_MS COMMAND …`. */
import { doctor } from "../../src/cli/doctor.ts";
import { score } from "../../src/cli/score.ts";
import { serve } from "../../src/cli/serve.ts";
import { train } from "../../src/cli/train.ts";
import { InputError } from "../../src/errors.ts";
import { FakeEngine, refusal } from "../helpers/fake_engine.ts";

const [stepMs, command, ...args] = Deno.args;
const startEngine = () => {
  const engine = new FakeEngine({
    steps: 5,
    beforeStep: () => new Promise((resolve) => setTimeout(resolve, Number(stepMs))),
  });
  engine.failing.set("bad", refusal("config.json: hidden_size"));
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
  console.error(error instanceof InputError ? error.message : error);
  Deno.exit(error instanceof InputError ? 2 : 1);
}
