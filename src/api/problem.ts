/** What every error answer looks like: RFC 9457. */
import { z } from "zod";

/** An error answer's body. */
export const ProblemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string().describe("One sentence that names what was refused and what would be accepted."),
  field: z.string().optional(),
  value: z.unknown().optional().describe("The refused value; cut short where it is long."),
  accepted: z.string().optional(),
  request_id: z.string().optional(),
  error: z.object({
    message: z.string(),
    type: z.enum(["invalid_request_error", "server_error"]),
    param: z.string().nullable(),
    code: z.null(),
  }).optional().describe("Under /v1: the same in OpenAI's form."),
}).meta({ id: "Problem" });

/** See {@link ProblemSchema}. */
export type Problem = z.infer<typeof ProblemSchema>;
