/** DPO with a statistic of the whole step, as an objective that no request can name. */
import { z } from "zod";
import { defineKernel } from "../../src/gpu/mod.ts";
import { columnConstants, type Objective } from "../../src/objective/objective.ts";

const HEAD = `
struct Params { pairs: u32, beta: f32, weight: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> averages: array<vec2<f32>>; // [sequences]
@group(0) @binding(2) var<storage, read> sequence_rows: array<u32>; // [sequences + 1]

fn logprob(sequence: u32) -> f32 {
  return averages[sequence].x * f32(sequence_rows[sequence + 1u] - sequence_rows[sequence]);
}
`;

const PREPARE = `${HEAD}
@group(0) @binding(3) var<storage, read_write> numbers: array<f32>; // [sequences, 1]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < 2u * params.pairs) {
    numbers[id.x] = logprob(id.x);
  }
}
`;

const STATISTIC = `${HEAD}
@group(0) @binding(3) var<storage, read> numbers: array<f32>; // [sequences, 1]
@group(0) @binding(4) var<storage, read_write> statistic: array<f32>; // [1]

@compute @workgroup_size(1, 1, 1)
fn main() {
  for (var sequence = 0u; sequence < 2u * params.pairs; sequence++) {
    statistic[0] += params.weight * (logprob(sequence) - numbers[sequence]);
  }
}
`;

const LOSS = `${HEAD}
@group(0) @binding(3) var<storage, read> numbers: array<f32>; // [sequences, 1]
@group(0) @binding(4) var<storage, read> statistic: array<f32>; // [1]
@group(0) @binding(5) var<storage, read_write> coefficients: array<f32>; // [sequences]
@group(0) @binding(6) var<storage, read_write> metrics: array<f32>; // [pairs, COLUMNS]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pair = id.x;
  if (pair >= params.pairs) {
    return;
  }
  let chosen = logprob(2u * pair) - numbers[2u * pair];
  let rejected = logprob(2u * pair + 1u) - numbers[2u * pair + 1u];
  let z = params.beta * (chosen - rejected);
  let pull = params.weight * params.beta / (1.0 + exp(z));
  coefficients[2u * pair] = -pull;
  coefficients[2u * pair + 1u] = pull;
  metrics[pair * $(COLUMNS)u + $(LOSS)u] = log(1.0 + exp(-z));
  metrics[pair * $(COLUMNS)u + $(REWARDS_MARGINS)u] = z;
  metrics[pair * $(COLUMNS)u + $(STATISTIC)u] = statistic[0];
  metrics[pair * $(COLUMNS)u + $(EXAMPLES)u] = 1.0;
}
`;

const BETA = 0.5;
const columns = ["loss", "rewards/margins", "statistic", "examples"];

const dispatchOf = (live: { examples: number; step_examples: number }, weight: number, each: number) => ({
  params: { pairs: live.examples, beta: BETA, weight },
  workgroups: [each, 1, 1] as const,
});

export const DPO: Objective = {
  type: "dpo",
  title: "DPO",
  schema: z.object({ type: z.string() }),
  defaults: { learning_rate: 1e-6, max_length: 512, max_prompt_length: 128 },
  recipes: {},
  rows: "preference",
  responses: 2,
  columns,
  prepare: {
    numbers: ["reference_logprob"],
    record(program, _method, { averages, sequence_rows, numbers }) {
      const kernel = defineKernel({ name: "dpo_prepare", source: PREPARE });
      program.dispatch(
        kernel,
        { averages, sequence_rows, numbers },
        (live) => dispatchOf(live, 1, Math.ceil(live.examples / 4)),
      );
    },
  },
  statistic: {
    size: 1,
    groups: (groups) => groups.toReversed(),
    record(program, _method, { averages, sequence_rows, numbers, statistic }) {
      const kernel = defineKernel({ name: "dpo_statistic", source: STATISTIC });
      const bindings = { averages, sequence_rows, numbers: numbers!, statistic: statistic! };
      program.dispatch(kernel, bindings, (live) => dispatchOf(live, 1 / live.step_examples, 1));
    },
  },
  resolve: (given) => given,
  record(program, _method, { averages, sequence_rows, numbers, statistic, coefficients, metrics }) {
    const constants = columnConstants(columns);
    const kernel = defineKernel({ name: "dpo", source: LOSS, constants });
    const bindings = {
      averages,
      sequence_rows,
      numbers: numbers!,
      statistic: statistic!,
      coefficients,
      metrics,
    };
    program.dispatch(
      kernel,
      bindings,
      (live) => dispatchOf(live, 1 / live.step_examples, Math.ceil(live.examples / 8)),
    );
  },
  summarize: (_method, { mean }) =>
    Object.fromEntries(columns.slice(0, -1).map((name) => [name, mean(name)])),
};
