/**
 * LD-DPO with a statistic of the whole step, as an objective that no request can name: z = beta ((l_w - ref_w) - (l_l - ref_l)),
 * where l counts the log-probs of a response's tokens behind the shorter one's length alpha times.
 */
import { z } from "zod";
import { defineKernel } from "../../src/gpu/mod.ts";
import { columnConstants, type Objective } from "../../src/objective/objective.ts";

const HEAD = `
struct Params { pairs: u32, beta: f32, alpha: f32, weight: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> logprobs: array<f32>; // [rows]
@group(0) @binding(2) var<storage, read> sequence_rows: array<u32>; // [sequences + 1]

fn shorter(sequence: u32) -> u32 {
  let first = sequence / 2u * 2u;
  return min(sequence_rows[first + 1u] - sequence_rows[first], sequence_rows[first + 2u] - sequence_rows[first + 1u]);
}

fn row_weight(sequence: u32, row: u32) -> f32 {
  return select(params.alpha, 1.0, row < sequence_rows[sequence] + shorter(sequence));
}

fn logprob(sequence: u32) -> f32 {
  var sum = 0.0;
  for (var row = sequence_rows[sequence]; row < sequence_rows[sequence + 1u]; row++) {
    sum += row_weight(sequence, row) * logprobs[row];
  }
  return sum;
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
@group(0) @binding(5) var<storage, read_write> coefficients: array<f32>; // [rows], or [sequences]
@group(0) @binding(6) var<storage, read_write> metrics: array<f32>; // [pairs, COLUMNS]

fn pull_by(sequence: u32, pull: f32) {
  @if (BY_ROW == 1) {
    for (var row = sequence_rows[sequence]; row < sequence_rows[sequence + 1u]; row++) {
      coefficients[row] = pull * row_weight(sequence, row);
    }
  } @else {
    coefficients[sequence] = pull;
  }
}

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
  pull_by(2u * pair, -pull);
  pull_by(2u * pair + 1u, pull);
  metrics[pair * $(COLUMNS)u + $(LOSS)u] = log(1.0 + exp(-z));
  metrics[pair * $(COLUMNS)u + $(REWARDS_MARGINS)u] = z;
  metrics[pair * $(COLUMNS)u + $(STATISTIC)u] = statistic[0];
  metrics[pair * $(COLUMNS)u + $(EXAMPLES)u] = 1.0;
}
`;

export const BETA = 0.5;
const columns = ["loss", "rewards/margins", "statistic", "examples"];

/** @param coefficients by sequence alone where alpha is 1 */
export function ldDpo(alpha: number, coefficients: "row" | "sequence" = "row"): Objective {
  const live = (examples: number, weight: number, workgroups: number) => ({
    params: { pairs: examples, beta: BETA, alpha, weight },
    workgroups: [workgroups, 1, 1] as const,
  });
  return {
    type: "ld_dpo",
    title: "LD-DPO",
    schema: z.object({ type: z.string() }),
    defaults: { learning_rate: 1e-6, max_length: 512, max_prompt_length: 128 },
    recipes: {},
    rows: "preference",
    responses: 2,
    coefficients,
    columns,
    prepare: {
      numbers: ["reference_logprob"],
      record(program, _method, { logprobs, sequence_rows, numbers }) {
        const kernel = defineKernel({ name: "ld_dpo_prepare", source: PREPARE });
        program.dispatch(
          kernel,
          { logprobs, sequence_rows, numbers },
          ({ examples }) => live(examples, 1, Math.ceil(examples / 4)),
        );
      },
    },
    statistic: {
      size: 1,
      groups: (groups) => groups.toReversed(),
      record(program, _method, { logprobs, sequence_rows, numbers, statistic }) {
        const kernel = defineKernel({ name: "ld_dpo_statistic", source: STATISTIC });
        const bindings = { logprobs, sequence_rows, numbers: numbers!, statistic: statistic! };
        program.dispatch(
          kernel,
          bindings,
          ({ examples, step_examples }) => live(examples, 1 / step_examples, 1),
        );
      },
    },
    resolve: (given) => given,
    record(program, _method, { logprobs, sequence_rows, numbers, statistic, coefficients: own, metrics }) {
      const constants = { ...columnConstants(columns), BY_ROW: coefficients === "row" ? 1 : 0 };
      const kernel = defineKernel({ name: "ld_dpo", source: LOSS, constants });
      const bindings = {
        ...{ logprobs, sequence_rows, numbers: numbers!, statistic: statistic! },
        ...{ coefficients: own, metrics },
      };
      program.dispatch(
        kernel,
        bindings,
        ({ examples, step_examples }) => live(examples, 1 / step_examples, Math.ceil(examples / 8)),
      );
    },
    summarize: (_method, { mean }) =>
      Object.fromEntries(columns.slice(0, -1).map((name) => [name, mean(name)])),
  };
}
