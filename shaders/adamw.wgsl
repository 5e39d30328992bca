// AdamW as torch.optim.AdamW: decoupled weight decay, bias-corrected moments; the gradient is first scaled by clip[0]; where
// that is negative, the update is left out.
// Preludes: chunks.wgsl, elements.wgsl.

// The host hands over the constants, since 1 - 0.999 in f32 has only five digits.
struct Params {
  count: u32, // chunks
  beta2: f32,
  gain1: f32, // 1 - beta1
  gain2: f32, // 1 - beta2
  epsilon: f32,
  decay: f32, // 1 - learning_rate * weight_decay
  step_size: f32, // learning_rate / (1 - beta1^step)
  root_correction: f32, // sqrt(1 - beta2^step)
}

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> clip: array<f32>; // [2] (factor, norm)
@group(0) @binding(2) var<storage, read> gradient: array<Chunk>; // [count]
@group(0) @binding(3) var<storage, read_write> parameter: array<Chunk>; // [count]
@group(0) @binding(4) var<storage, read_write> mean: array<Chunk>; // [count] first moment
@group(0) @binding(5) var<storage, read_write> variance: array<Chunk>; // [count] second moment

fn element_count(params: Params) -> u32 {
  return select(params.count, 0u, clip[0] < 0.0);
}

fn element(at: u32, params: Params) {
  let g = gradient[at] * clip[0];
  let before = mean[at];
  let m = before + (g - before) * params.gain1;
  let v = variance[at] * params.beta2 + g * g * params.gain2;
  mean[at] = m;
  variance[at] = v;
  parameter[at] = parameter[at] * params.decay - params.step_size * (m / (sqrt(v) / params.root_correction + params.epsilon));
}
