/** A job outlives its process: killed or stopped at any moment it ends as if nothing had been. */
import assert from "node:assert/strict";
import { random } from "../helpers/random.ts";
import { variant } from "../helpers/tier.ts";
import {
  after,
  afterCheckpoint,
  endsAsUndisturbed,
  type Moment,
  readingRows,
  TRAININGS,
  writingCheckpoint,
} from "./_crashes.ts";

const source = random(20);
const MOMENTS: Readonly<Record<string, readonly Moment[]>> = {
  LoRA: [
    readingRows,
    after(source.uniform() * 200),
    afterCheckpoint,
    after(source.uniform() * 200, "SIGTERM"),
    writingCheckpoint,
  ],
  "LoRA and whole modules": [writingCheckpoint, after(source.uniform() * 200), afterCheckpoint],
  "LoRA on an int8 base": [afterCheckpoint, writingCheckpoint],
  "full fine-tuning": [
    writingCheckpoint,
    after(source.uniform() * 200),
    after(source.uniform() * 200, "SIGTERM"),
    afterCheckpoint,
  ],
};

for (const [name, moments] of Object.entries(MOMENTS)) {
  const inBoth = name === "LoRA" || name === "full fine-tuning";
  const test = variant(inBoth, inBoth);
  test(`a job of ${name} goes on by itself after kill -9 and SIGTERM, to the same end bit for bit`, async () => {
    const resumed = await endsAsUndisturbed(TRAININGS[name]!, moments);
    assert.ok(resumed.length > 2 && resumed.at(-1)! > 0, `${resumed}`);
  });
}
