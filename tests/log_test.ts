import assert from "node:assert/strict";
import { formatRecord } from "../src/log.ts";

Deno.test("formatRecord() is one line of JSON with the values by name, an error with its stack", () => {
  const error = new Error("lost\ndevice");
  const line = formatRecord({
    category: ["simpo", "jobs"],
    level: "error",
    timestamp: 0,
    message: ["Job ", "job-1", " failed: ", error, ""],
    rawMessage: "Job {id} failed: {error}",
    properties: { id: "job-1", error },
  });
  assert.doesNotMatch(line, /\n/);
  const { error: stack, ...rest } = JSON.parse(line);
  assert.match(stack, /lost\ndevice\n.*log_test/);
  assert.deepEqual(rest, {
    time: "1970-01-01T00:00:00.000Z",
    level: "error",
    logger: "simpo.jobs",
    message: "Job job-1 failed: lost\ndevice",
    id: "job-1",
  });
});
