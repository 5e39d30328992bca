// delta[i, h] = sum_c d_o[i, h, c] * o[i, h, c], which is sum_j p[i, j] * dp[i, j] of attention's backward.
// One invocation computes one row of one head; dispatch ceil(tokens * heads / 8) workgroups, folded.

struct Params { rows: u32, head_dim: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> o: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(2) var<storage, read> d_o: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(3) var<storage, read_write> delta: array<f32>; // [tokens, heads]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let row = (group.y * groups.x + group.x) * 8u + local.x;
  if (row >= params.rows) {
    return;
  }
  let begin = row * params.head_dim;
  let end = begin + params.head_dim;
  var sum = 0.0;
  for (var i = begin; i < end; i++) {
    sum = fma(o[i], d_o[i], sum);
  }
  delta[row] = sum;
}
