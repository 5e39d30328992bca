import type { ParseArgsConfig } from "node:util";

/** Each command's options, for its own code and for `permissions.ts`, which must know a file's name from an option's. */
export const COMMAND_OPTIONS = {
  serve: {},
  train: {
    quiet: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    rows: { type: "boolean", default: false },
    "accept-changes": { type: "boolean", default: false },
  },
  plan: { json: { type: "boolean", default: false } },
  inspect: { json: { type: "boolean", default: false } },
  score: {
    model: { type: "string" },
    adapter: { type: "string" },
    quantization: { type: "string" },
    "chat-template": { type: "string" },
    "chat-template-kwargs": { type: "string" },
    "prompt-boundary": { type: "string" },
    "max-length": { type: "string" },
    "max-prompt-length": { type: "string" },
    "truncation-mode": { type: "string" },
    "split-special-tokens": { type: "string" },
    "no-eos": { type: "boolean", default: false },
    beta: { type: "string" },
    "token-logprobs": { type: "boolean", default: false },
  },
  doctor: { json: { type: "boolean", default: false } },
} as const satisfies Record<string, NonNullable<ParseArgsConfig["options"]>>;
