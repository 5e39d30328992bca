import assert from "node:assert/strict";
import fc from "fast-check";
import { ExampleOrder, learningRate, planSchedule } from "../../src/training/schedule.ts";
import { settingsOf } from "../helpers/settings.ts";

/** Rates before each update by transformers 5.23's get_scheduler(name, optimizer of rate 3e-4, warm-up, total). */
const TRANSFORMERS = {
  "cosine 10 0": [
    0.0003,
    0.00029265847744427303,
    0.0002713525491562421,
    0.00023816778784387094,
    0.0001963525491562421,
    0.00015,
    0.0001036474508437579,
    6.183221215612904e-05,
    2.8647450843757897e-05,
    7.34152255572697e-06,
  ],
  "cosine 10 2": [
    0,
    0.00015,
    0.0003,
    0.000288581929876693,
    0.00025606601717798207,
    0.00020740251485476345,
    0.00015,
    9.259748514523653e-05,
    4.3933982822017876e-05,
    1.1418070123306989e-05,
  ],
  "cosine 7 1": [0, 0.0003, 0.0002799038105676658, 0.000225, 0.00015, 7.5e-05, 2.009618943233419e-05],
  "cosine 3 3": [0, 0.0001, 0.0002],
  "linear 10 0": [0.0003, 0.00027, 0.00024, 0.00021, 0.00018, 0.00015, 0.00012, 9e-05, 6e-05, 3e-05],
  "linear 10 2": [0, 0.00015, 0.0003, 0.0002625, 0.000225, 0.0001875, 0.00015, 0.0001125, 7.5e-05, 3.75e-05],
  "linear 7 1": [0, 0.0003, 0.00025, 0.0002, 0.00015, 0.0001, 5e-05],
  "constant_with_warmup 10 0": new Array(10).fill(0.0003),
  "constant_with_warmup 10 2": [0, 0.00015, ...new Array(8).fill(0.0003)],
  "constant_with_warmup 3 3": [0, 0.0001, 0.0002],
  "constant 4 2": new Array(4).fill(0.0003),
};

for (const [name, rates] of Object.entries(TRANSFORMERS)) {
  Deno.test(`learningRate() is transformers': ${name}`, () => {
    const [lr_scheduler_type, total, warmup] = name.split(" ");
    const settings = settingsOf({
      learning_rate: 3e-4,
      lr_scheduler_type,
      warmup_ratio: Number(warmup) / Number(total),
      max_steps: Number(total),
    });
    const schedule = planSchedule(settings, 100);
    assert.equal(schedule.warmup_steps, Number(warmup));
    for (const [step, rate] of rates.entries()) {
      const got = learningRate(settings, schedule, step);
      assert.ok(Math.abs(got - rate) < 1e-15, `step ${step}: ${got} instead of ${rate}`);
    }
  });
}

Deno.test("planSchedule() counts a smaller last batch and the begun part of an epoch", () => {
  const plan = (spec: Record<string, unknown>, examples: number) => planSchedule(settingsOf(spec), examples);
  assert.deepEqual(plan({ batch_size: 4 }, 10), { total_steps: 3, steps_per_epoch: 3, warmup_steps: 0 });
  assert.equal(plan({ batch_size: 4, num_train_epochs: 3 }, 8).total_steps, 6);
  assert.equal(plan({ batch_size: 4, num_train_epochs: 1.5 }, 10).total_steps, 5);
  assert.equal(plan({ batch_size: 128, num_train_epochs: 0.1 }, 3).total_steps, 1);
  assert.equal(plan({ batch_size: 4, max_steps: 7 }, 10).total_steps, 7);
  // as transformers rounds: a tenth of 11 steps are 2
  assert.equal(plan({ max_steps: 11, warmup_ratio: 0.1 }, 10).warmup_steps, 2);
  // a single step at rate 0 would train nothing
  assert.equal(plan({ max_steps: 1, warmup_ratio: 0.1 }, 10).warmup_steps, 0);
});

Deno.test("ExampleOrder gives every example once an epoch, whatever the batch", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 60 }),
    fc.integer({ min: 1, max: 20 }),
    fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    fc.integer({ min: 0, max: 3 }),
    (examples, batch_size, seed, epoch) => {
      const settings = settingsOf({ batch_size, seed });
      const order = new ExampleOrder(settings, examples);
      const { steps_per_epoch } = planSchedule(settings, examples);
      const seen = Array.from(
        { length: steps_per_epoch },
        (_, i) => order.ofStep(epoch * steps_per_epoch + i),
      );
      assert.ok(seen.every(({ length }) => length > 0 && length <= batch_size));
      const all = seen.flatMap((indices) => [...indices]).sort((a, b) => a - b);
      assert.deepEqual(all, Array.from({ length: examples }, (_, i) => i));
    },
  ));
});

Deno.test("ExampleOrder depends on seed and step alone, not on the steps asked before", () => {
  const settings = settingsOf({ batch_size: 3 });
  const inOrder = new ExampleOrder(settings, 10);
  const steps = Array.from({ length: 12 }, (_, step) => [...inOrder.ofStep(step)]);
  for (const step of [11, 0, 5, 4]) {
    assert.deepEqual([...new ExampleOrder(settings, 10).ofStep(step)], steps[step]);
  }
  const epochs = [0, 1, 2].map((epoch) => steps.slice(4 * epoch, 4 * epoch + 4).flat().join());
  assert.equal(new Set(epochs).size, 3, "each epoch has its own order");
  const other = new ExampleOrder(settingsOf({ batch_size: 3, seed: 2 }), 10);
  assert.notDeepEqual([0, 1, 2, 3].flatMap((step) => [...other.ofStep(step)]), steps.slice(0, 4).flat());
});
