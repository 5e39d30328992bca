/** The job.json that commands are given. */
import { basename } from "node:path";
import { type JobRequest, JobRequestSchema } from "../api/job.ts";
import { within } from "../errors.ts";
import { type JobSpec, toJobSpec } from "../jobs/spec.ts";
import { excessOf } from "../json_scan.ts";
import { checkChatTemplate } from "../text/check_template.ts";
import { parseWith } from "../validation.ts";
import { readUtf8 } from "./_command.ts";
import { refuse } from "./_refuse.ts";

/**
 * Reads a job file.
 *
 * @returns the request in it, and the job with nothing left open
 * @throws InputError where it cannot be read, is not JSON, or asks for what no job can do
 */
export async function readJob(path: string): Promise<{ request: JobRequest; spec: JobSpec }> {
  const fail = (why: string): never =>
    refuse("job.json", path, "a JSON file", `${JSON.stringify(path)} ${why}.`);
  let json: unknown;
  let text: string;
  try {
    text = await readUtf8(path);
  } catch (error) {
    return fail(`cannot be read: ${(error as Error).message}`);
  }
  const excess = excessOf(new TextEncoder().encode(text));
  if (excess !== null) return fail(excess);
  try {
    json = JSON.parse(text);
  } catch (error) {
    return fail(`is not JSON: ${(error as Error).message}`);
  }
  return await within([{ file: basename(path) }], async () => {
    const request = parseWith(JobRequestSchema, json);
    await checkChatTemplate(request.chat_template);
    return { request, spec: toJobSpec(request) };
  });
}
