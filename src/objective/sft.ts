/** Plain likelihood training: token-mean cross-entropy of one completion a row. */
import { z } from "zod";
import sftSource from "../../shaders/sft.wgsl" with { type: "text" };
import { DEFAULT_MAX_PROMPT_LENGTH } from "../api/fields.ts";
import { defineKernel } from "../gpu/kernel.ts";
import { strictObject } from "../validation.ts";
import { columnConstants, type Objective } from "./objective.ts";

const schema = strictObject({
  type: z.literal("sft").meta({ description: "Plain likelihood training on one completion a row." }),
});

/** It has no settings. */
export type SftMethod = Readonly<z.infer<typeof schema>>;

const columns = ["logps/chosen", "logits/chosen", "chosen_logprob_sum", "chosen_tokens", "examples"] as const;

export const sft = {
  type: "sft",
  title: "supervised fine-tuning",
  schema,
  defaults: { learning_rate: 1e-6, max_length: 512, max_prompt_length: DEFAULT_MAX_PROMPT_LENGTH },
  recipes: {},
  rows: "sft",
  responses: 1,
  columns,

  resolve: (given) => given,

  record(program, _method, { averages, sequence_rows, coefficients, metrics }) {
    const kernel = defineKernel({ name: "sft", source: sftSource, constants: columnConstants(columns) });
    const bindings = { averages, sequence_rows, coefficients, metrics };
    program.dispatch(kernel, bindings, (live) => ({
      params: { sequences: live.examples, token_weight: 1 / live.step_chosen_tokens },
      invocations: live.examples,
    }));
  },

  summarize(_method, { sum, mean }) {
    return {
      loss: -sum("chosen_logprob_sum") / sum("chosen_tokens"),
      "logps/chosen": mean("logps/chosen"),
      "logits/chosen": mean("logits/chosen"),
    };
  },
} satisfies Objective<SftMethod, SftMethod>;
