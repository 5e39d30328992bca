import { InputError } from "../errors.ts";

/** Why an engine that stops takes no call. */
export function stopped(): InputError {
  return new InputError("The worker is stopping and takes no more work.", {
    path: ["worker"],
    accepted: "a request to a worker that is ready",
    status: 503,
  });
}
