// AdamW as torch.optim.AdamW: decoupled weight decay, bias-corrected moments; the gradient is first scaled by clip[0].
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

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let factor = clip[0];
  if (factor < 0.0) {
    return;
  }
  let adamw = params; // once: the software driver would load them again for every chunk
  let first = first_element(group, groups, local);
  @unroll(i, 0, 4) {
  {
    let at = first + $(i * 64)u;
    if (at < adamw.count) {
      let g = gradient[at] * factor;
      let before = mean[at];
      let m = before + (g - before) * adamw.gain1;
      let v = variance[at] * adamw.beta2 + g * g * adamw.gain2;
      mean[at] = m;
      variance[at] = v;
      parameter[at] = parameter[at] * adamw.decay - adamw.step_size * (m / (sqrt(v) / adamw.root_correction + adamw.epsilon));
    }
  }
  }
}
