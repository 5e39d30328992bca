// SimPO (arXiv 2405.14734): with s the average log-probs of chosen and rejected and x = beta (s_w - s_l) - gamma,
//   sigmoid: -(1 - eps) logsigmoid(x) - eps logsigmoid(-x);  hinge: max(0, 1 - x)
// plus sft_scale times the summed negative log-prob of the chosen tokens. Writes the loss's gradient with respect to
// each token's log-prob of a sequence (all its tokens share it), and one row of metrics a pair.
// Pair p is made of sequences 2p (chosen) and 2p + 1 (rejected). One invocation a pair; workgroups of 8.

struct Params { pairs: u32, beta: f32, gamma: f32, label_smoothing: f32, hinge: u32, pair_weight: f32, sft_scale: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> averages: array<vec2<f32>>; // [sequences] (log-prob, logit)
@group(0) @binding(2) var<storage, read> sequence_rows: array<u32>; // [sequences + 1]
@group(0) @binding(3) var<storage, read_write> coefficients: array<f32>; // [sequences]
@group(0) @binding(4) var<storage, read_write> metrics: array<f32>; // [pairs, COLUMNS]

fn logsigmoid(x: f32) -> f32 {
  let e = exp(-abs(x));
  // log(1 + e) loses the digits of a small e
  let log1p = select(log(1.0 + e), e * (1.0 - e * (0.5 - e / 3.0)), e < 0.01);
  return min(x, 0.0) - log1p;
}

fn sigmoid(x: f32) -> f32 {
  let e = exp(-abs(x));
  return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pair = id.x;
  if (pair >= params.pairs) {
    return;
  }
  let chosen = averages[2u * pair];
  let rejected = averages[2u * pair + 1u];
  let chosen_tokens = f32(sequence_rows[2u * pair + 1u] - sequence_rows[2u * pair]);
  let rejected_tokens = f32(sequence_rows[2u * pair + 2u] - sequence_rows[2u * pair + 1u]);
  let x = params.beta * (chosen.x - rejected.x) - params.gamma;
  let eps = params.label_smoothing;
  var loss = -(1.0 - eps) * logsigmoid(x) - eps * logsigmoid(-x);
  var slope = eps * sigmoid(x) - (1.0 - eps) * sigmoid(-x); // d loss / d x
  if (params.hinge == 1u) {
    loss = max(0.0, 1.0 - x);
    slope = select(0.0, -1.0, x < 1.0);
  }
  let pull = params.pair_weight * slope * params.beta;
  coefficients[2u * pair] = pull / chosen_tokens - params.sft_scale;
  coefficients[2u * pair + 1u] = -pull / rejected_tokens;

  let base = pair * $(COLUMNS)u;
  metrics[base + $(LOSS)u] = loss;
  metrics[base + $(REWARDS_CHOSEN)u] = params.beta * chosen.x;
  metrics[base + $(REWARDS_REJECTED)u] = params.beta * rejected.x;
  metrics[base + $(REWARDS_ACCURACIES)u] = select(0.0, 1.0, chosen.x > rejected.x);
  metrics[base + $(REWARDS_MARGINS)u] = params.beta * (chosen.x - rejected.x);
  metrics[base + $(LOGPS_CHOSEN)u] = chosen.x;
  metrics[base + $(LOGPS_REJECTED)u] = rejected.x;
  metrics[base + $(LOGITS_CHOSEN)u] = chosen.y;
  metrics[base + $(LOGITS_REJECTED)u] = rejected.y;
  metrics[base + $(CHOSEN_LOGPROB_SUM)u] = chosen.x * chosen_tokens;
  metrics[base + $(CHOSEN_TOKENS)u] = chosen_tokens;
  metrics[base + $(EXAMPLES)u] = 1.0;
}
