import assert from "node:assert/strict";
import { join } from "node:path";
import { score } from "../../src/cli/score.ts";
import { newJobId } from "../../src/jobs/folder.ts";
import { JobRunner } from "../../src/jobs/runner.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { JobStore } from "../../src/jobs/store.ts";
import { DEFAULT_ENCODING } from "../../src/scoring/request.ts";
import { FakeEngine } from "../helpers/fake_engine.ts";
import { makeRoot } from "../helpers/service.ts";

Deno.test("score() takes the quantization and the encoding that a job had, beside a service that has the store open", async () => {
  const root = await makeRoot();
  const [state, input, output] = ["state", "in.jsonl", "out.jsonl"].map((name) => join(root, name));
  await Deno.mkdir(state!);
  await Deno.writeTextFile(input!, JSON.stringify({ prompt: "a", candidates: ["b"] }));
  const engine = new FakeEngine();
  try {
    using store = new JobStore(join(state!, "jobs.sqlite"));
    const runner = new JobRunner({ store, root, state: state!, engine: Promise.resolve(engine) });
    const given = { model: "model", dataset: { path: "rows.jsonl" } };
    const ids: string[] = [];
    const kwargs = { enable_thinking: true };
    for (const quantization of ["int8", null]) {
      const own = { quantization, prompt_boundary: "simpo", max_length: 40, chat_template_kwargs: kwargs };
      const { job } = store.create(newJobId(), parseJobSpec({ ...given, ...own }));
      ids.push(job.id);
      assert.equal((await runner.runToEnd(job.id)).status, "succeeded");
    }
    const environment = new Map([["SIMPO_ROOT", root], ["SIMPO_STATE", state!]]);
    for (const adapter of [...ids, "adapter"]) {
      const args = ["--model", "model", "--adapter", adapter, input!, output!];
      assert.equal(await score(args, () => Promise.resolve(engine), environment), 0);
    }
    assert.deepEqual(engine.scored.map(({ quantization }) => quantization), ["int8", null, null]);
    const own = {
      prompt_boundary: "simpo",
      max_length: 40,
      max_prompt_length: 39,
      chat_template_kwargs: kwargs,
    };
    const whole = { ...DEFAULT_ENCODING, ...own };
    assert.deepEqual(engine.scored.map(({ encoding }) => encoding), [whole, whole, DEFAULT_ENCODING]);
    const options = [
      "--prompt-boundary",
      "trl",
      "--max-length",
      "20",
      "--max-prompt-length",
      "10",
      "--no-eos",
    ];
    const more = [
      "--truncation-mode",
      "keep_start",
      "--chat-template-kwargs",
      '{"a":1}',
      "--split-special-tokens",
      "true",
    ];
    const args = ["--model", "model", "--adapter", ids[0]!, ...options, ...more, input!, output!];
    assert.equal(await score(args, () => Promise.resolve(engine), environment), 0);
    assert.deepEqual(engine.scored.at(-1)!.encoding, {
      prompt_boundary: "trl",
      max_length: 20,
      max_prompt_length: 10,
      truncation_mode: "keep_start",
      add_eos_token: false,
      chat_template_kwargs: { a: 1 },
      split_special_tokens: true,
    });
    // one without a score is told, and the others' lines go on
    const lines = [{ prompt: "a", candidates: [""] }, { prompt: "a", candidates: ["b"] }];
    await Deno.writeTextFile(input!, lines.map((line) => JSON.stringify(line)).join("\n"));
    assert.equal(
      await score(["--model", "model", input!, output!], () => Promise.resolve(engine), environment),
      0,
    );
    const written = (await Deno.readTextFile(output!)).trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(written.map(({ best }) => best), [null, 0]);
    assert.equal(written[0].results[0].reason, "The candidate is empty.");
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("score() names a line that is not UTF-8, takes a byte order mark, and does not write over what it reads", async () => {
  const root = await makeRoot();
  const [input, output] = [join(root, "in.jsonl"), join(root, "out.jsonl")];
  const line = JSON.stringify({ prompt: "a", candidates: ["b"] });
  const engine = new FakeEngine();
  const run = (...files: string[]) =>
    score(["--model", "model", ...files], () => Promise.resolve(engine), new Map([["SIMPO_ROOT", root]]));
  try {
    await Deno.writeTextFile(input, `\ufeff${line}\n${line}`);
    assert.equal(await run(input, output), 0);
    assert.equal((await Deno.readTextFile(output)).trim().split("\n").length, 2);
    await Deno.symlink(input, join(root, "same.jsonl"));
    for (const same of [input, join(root, "same.jsonl")]) {
      await assert.rejects(
        run(input, same),
        /in\.jsonl" is read and written|same\.jsonl" is read and written/,
      );
    }
    const bytes = new TextEncoder().encode(`${line}\n${line}\n`);
    bytes[bytes.lastIndexOf(0x62)] = 0xff; // the second b
    await Deno.writeFile(input, bytes);
    await assert.rejects(run(input, output), { message: "Line 2 is not UTF-8." });
    assert.equal((await Deno.readTextFile(output)).trim().split("\n").length, 1);
    const template = join(root, "template.jinja");
    await Deno.writeFile(template, bytes);
    await assert.rejects(run("--chat-template", template, input, output), /cannot be read: it is not UTF-8/);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
