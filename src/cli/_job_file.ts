/** The job.json that commands are given. */
import { basename } from "node:path";
import { type JobRequest, JobRequestSchema } from "../api/job.ts";
import { InputError, within } from "../errors.ts";
import { type JobSpec, toJobSpec } from "../jobs/spec.ts";
import { excessOf } from "../json_scan.ts";
import { checkChatTemplate } from "../text/check_template.ts";
import { parseWith } from "../validation.ts";
import { readUtf8 } from "./_command.ts";

/**
 * Reads a job file.
 *
 * @returns the request in it, and the job with nothing left open
 * @throws InputError where it cannot be read, is not JSON, or asks for what no job can do
 */
export async function readJob(path: string): Promise<{ request: JobRequest; spec: JobSpec }> {
  const refuse = (why: string): never => {
    throw new InputError(`${JSON.stringify(path)} ${why}.`, {
      path: ["job.json"],
      value: path,
      accepted: "a JSON file",
    });
  };
  let json: unknown;
  let text: string;
  try {
    text = await readUtf8(path);
  } catch (error) {
    return refuse(`cannot be read: ${(error as Error).message}`);
  }
  const excess = excessOf(new TextEncoder().encode(text));
  if (excess !== null) return refuse(excess);
  try {
    json = JSON.parse(text);
  } catch (error) {
    return refuse(`is not JSON: ${(error as Error).message}`);
  }
  return await within([{ file: basename(path) }], async () => {
    const request = parseWith(JobRequestSchema, json);
    await checkChatTemplate(request.chat_template);
    return { request, spec: toJobSpec(request) };
  });
}
