import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { PreparedFile } from "../../src/training/prepared_file.ts";
import type { TrainEvent } from "../../src/training/request.ts";
import { tokenFolder } from "../../src/training/token_files.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { inFolder } from "../helpers/folder.ts";
import { DPO } from "./_dpo.ts";
import { runTiny } from "./_run.ts";

const SPEC = { max_steps: 4, batch_size: 4, learning_rate: 1e-2, save_steps: 1, micro_batch_tokens: 128 };

function metricsOf(events: readonly TrainEvent[]) {
  return events.filter((event) => event.type === "metrics").map(({ metrics }) => metrics);
}

/** Ends the run once as many micro-batches were queued. */
function stopsAfter(batches: number) {
  let calls = 0;
  return { between: () => Promise.resolve(++calls > batches ? "stop" as const : "continue" as const) };
}

async function preparedPath(directory: string): Promise<string> {
  const names = await Array.fromAsync(Deno.readDir(tokenFolder(directory)), ({ name }) => name);
  return join(tokenFolder(directory), names.find((name) => name.startsWith("prepared-"))!);
}

for (
  const [kind, lora] of Object.entries({ LoRA: {}, "full fine-tuning": { lora: null, learning_rate: 1e-3 } })
) {
  Deno.test(`train() hands an objective its reference's log-probs of step 0: ${kind}`, async () => {
    const { outcome, events } = await runTiny({ spec: { ...SPEC, ...lora }, objective: DPO });
    assert.equal(outcome.outcome, "succeeded");
    const [first, , , last] = metricsOf(events);
    // the policy is its own reference still
    assertClose([first!["loss"]!], [Math.LN2], { rtol: 1e-6 });
    assertClose([first!["rewards/margins"]!, first!["statistic"]!], [0, 0], { rtol: 0, atol: 1e-4 });
    assert.ok(last!["loss"]! < Math.LN2 - 0.01, `the loss is ${last!["loss"]}`);
    // the statistic is one of the whole step, and of the weights before it
    assert.ok(Math.abs(last!["statistic"]!) > 0.01, `the statistic is ${last!["statistic"]}`);
  });
}

Deno.test("train() goes on with what was prepared, bit for bit, wherever it was stopped", async () => {
  const whole = metricsOf((await runTiny({ spec: SPEC, objective: DPO })).events);
  // in the preparation (rows, weights and tokens pause too), in the first steps
  for (const batches of [2, 6, 12]) {
    await inFolder(async (directory) => {
      await runTiny({ spec: SPEC, objective: DPO, directory, context: stopsAfter(batches) });
      const { outcome, events } = await runTiny({ spec: SPEC, objective: DPO, directory });
      assert.equal(outcome.outcome, "succeeded");
      assert.deepEqual(metricsOf(events), whole, `stopped after ${batches} batches`);
    });
  }
});

Deno.test("train() refuses to go on where what was prepared is damaged and the policy of step 0 has gone", async () => {
  await inFolder(async (directory) => {
    const first = runTiny({
      spec: SPEC,
      objective: DPO,
      directory,
      onEvent: (event) => {
        if (event.type === "checkpoint" && event.step === 2) throw new Error("killed");
      },
    });
    await assert.rejects(first, /killed/);
    const path = await preparedPath(directory);
    const bytes = await Deno.readFile(path);
    bytes[20]! ^= 1;
    await Deno.writeFile(path, bytes);
    await assert.rejects(
      runTiny({ spec: SPEC, objective: DPO, directory }),
      (error: Error) =>
        error instanceof InputError && /reference_logprob .* after step 2/.test(error.message),
    );
  });
});

Deno.test("PreparedFile goes on behind the last whole record", async () => {
  await inFolder(async (folder) => {
    const write = () => {
      const file = new PreparedFile(folder, "key", 5, 2);
      file.append(Float32Array.of(1, 2, 3, 4));
      file.append(Float32Array.of(5, 6));
      return file;
    };
    assert.equal(write().done, 3);
    const [{ name }] = await Array.fromAsync(Deno.readDir(folder)) as [Deno.DirEntry];
    const path = join(folder, name);
    const bytes = await Deno.readFile(path);
    for (let length = bytes.length; length >= 0; length--) {
      await Deno.writeFile(path, bytes.subarray(0, length));
      const { done } = new PreparedFile(folder, "key", 5, 2);
      assert.equal(done, length === bytes.length ? 3 : length >= 24 ? 2 : 0, `${length} bytes`);
    }
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = bytes.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      await Deno.writeFile(path, damaged);
      assert.equal(new PreparedFile(folder, "key", 5, 2).done, bit < 24 * 8 ? 0 : 2, `bit ${bit}`);
    }
    await Deno.remove(path);
    const file = write();
    assert.equal(new PreparedFile(folder, "another key", 5, 2).done, 0);
    assert.equal(file.isWhole, false);
    file.append(Float32Array.of(7, 8, 9, 10));
    const again = new PreparedFile(folder, "key", 5, 2);
    assert.equal(again.isWhole, true);
    assert.deepEqual([...again.of(3)], [7, 8]);
  });
});
