// Global gradient norm and the factor that clips it, as torch's clip_grad_norm_: min(1, max_norm / (norm + 1e-6)).
// A norm that is not finite gives the factor -1, on which the optimiser leaves everything as it is; it then stays in clip[1],
// so that whoever looks every few steps sees that an update between was left out.
// One invocation: there are at most 4096 partial sums.

struct Params { count: u32, max_norm: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> squares: array<f32>; // [count] partial sums of squares
@group(0) @binding(2) var<storage, read_write> clip: array<f32>; // [2] (factor, norm)

@compute @workgroup_size(1, 1, 1)
fn main() {
  var sum = 0.0;
  for (var i = 0u; i < params.count; i++) {
    sum += squares[i];
  }
  let norm = sqrt(sum);
  var factor = 1.0;
  if (params.max_norm > 0.0) {
    factor = min(1.0, params.max_norm / (norm + 1.0e-6));
  }
  if (!is_finite(sum)) {
    factor = -1.0;
  }
  clip[0] = factor;
  if (is_finite(clip[1])) {
    clip[1] = norm;
  }
}

// Comparisons with NaN may be optimised away: look at the exponent's bits.
fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
