// Plain likelihood: loss = -sum of log-probs * token_weight. Writes the same outputs as simpo.wgsl for one sequence a row.
// One invocation a sequence; workgroups of 8.

struct Params { sequences: u32, token_weight: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> averages: array<vec2<f32>>; // [sequences] (log-prob, logit)
@group(0) @binding(2) var<storage, read> sequence_rows: array<u32>; // [sequences + 1]
@group(0) @binding(3) var<storage, read_write> coefficients: array<f32>; // [sequences]
@group(0) @binding(4) var<storage, read_write> metrics: array<f32>; // [sequences, COLUMNS]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let sequence = id.x;
  if (sequence >= params.sequences) {
    return;
  }
  let tokens = f32(sequence_rows[sequence + 1u] - sequence_rows[sequence]);
  coefficients[sequence] = -params.token_weight;
  let base = sequence * $(COLUMNS)u;
  metrics[base + $(LOGPS_CHOSEN)u] = averages[sequence].x;
  metrics[base + $(LOGITS_CHOSEN)u] = averages[sequence].y;
  metrics[base + $(CHOSEN_LOGPROB_SUM)u] = averages[sequence].x * tokens;
  metrics[base + $(CHOSEN_TOKENS)u] = tokens;
  metrics[base + $(EXAMPLES)u] = 1.0;
}
