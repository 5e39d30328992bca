/** How each command is called: for its code, its help, and `permissions.ts`, which must know a file's name from an option's. */

/** A command, as its help tells it and as its arguments are read. */
export interface Command {
  readonly does: string;
  /** What stands for each file that is to be named. */
  readonly files: readonly string[];
  readonly options: Readonly<Record<string, Option>>;
}

/** An option in the form of `parseArgs` of node:util, and what the help says of it. */
export interface Option {
  readonly type: "boolean" | "string";
  readonly does: string;
  /** What stands for its value. */
  readonly shown?: string;
  readonly default?: boolean | string;
  readonly needed?: boolean;
}

/** Options' values as they are read. */
export type ValuesOf<Options> = {
  readonly [Name in keyof Options]: Options[Name] extends { type: "boolean" } ? boolean
    : Options[Name] extends { default: string } | { needed: true } ? string
    : string | undefined;
};

/** An option without a value. */
export function flag(does: string) {
  return { type: "boolean", default: false, does } as const;
}

/** An option with a value. */
export function value(shown: string, does: string) {
  return { type: "string", shown, does } as const;
}

const job = ["job.json"];
const json = { json: flag("print all of it as JSON") };

/** The commands, by name. */
export const COMMANDS = {
  serve: { does: "the HTTP service; its settings are environment variables", files: [], options: {} },
  train: {
    does: "run a training job to its end",
    files: job,
    options: {
      quiet: flag("print nothing but how it ended"),
      json: flag("print metrics as one JSON object a line, as where stdout is no terminal"),
      rows: flag("print metrics as rows, as at a terminal"),
      "accept-changes": flag("go on over a data set or a model that have changed since the checkpoint"),
    },
  },
  plan: { does: "what a training job needs of the device's memory", files: job, options: json },
  inspect: {
    does: "what its rows become: templated text, what is scored, cut and left out",
    files: job,
    options: json,
  },
  score: {
    does: "score candidates, a prompt a line; - is stdin or stdout",
    files: ["in.jsonl", "out.jsonl"],
    options: {
      model: { ...value("MODEL", "a model's folder under SIMPO_ROOT, or hf://org/name"), needed: true },
      adapter: value("FOLDER_OR_JOB", "an adapter's folder, or the id of a training job"),
      quantization: value("int8", "hold the linear layers in 8 bits"),
      "chat-template": value("FILE", "a Jinja template in place of the model's own"),
      "chat-template-kwargs": value("JSON", "the template's variables, as an object"),
      "prompt-boundary": value("trl|simpo", "how prompt and response become tokens together"),
      "max-length": value("N", "most tokens of a prompt with its response"),
      "max-prompt-length": value("N", "most tokens of a prompt"),
      "truncation-mode": value("keep_end|keep_start", "what is kept of a prompt that is too long"),
      "split-special-tokens": value("true|false", "whether special tokens in a text are plain text"),
      "no-eos": flag("add no EOS behind a candidate"),
      beta: value("NUMBER", "what an average log-prob is multiplied by to be a reward (2)"),
      "token-logprobs": flag("print each token's log-prob"),
    },
  },
  demo: {
    does: "score, train and score again over HTTP",
    files: [],
    options: { output: { ...value("FOLDER", "for the adapter and the curves"), default: "demo-output" } },
  },
  doctor: { does: "which device answers, and what is missing", files: [], options: json },
} as const satisfies Record<string, Command>;
