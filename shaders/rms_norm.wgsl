// y[r, c] = x[r, c] * rstd[r] * weight[c],  rstd[r] = 1 / sqrt(mean_c x[r, c]^2 + eps)
// One invocation computes one row; dispatch ceil(rows / 8) workgroups, folded.

struct Params { rows: u32, columns: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [columns]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, columns]
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>; // [rows]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let row = (group.y * groups.x + group.x) * 8u + local.x;
  if (row >= params.rows) {
    return;
  }
  let columns = params.columns;
  let base = row * columns;
  var sum = 0.0;
  for (var c = 0u; c < columns; c++) {
    let value = x[base + c];
    sum = fma(value, value, sum);
  }
  let scale = inverseSqrt(sum / f32(columns) + params.eps);
  rstd[row] = scale;
  for (var c = 0u; c < columns; c++) {
    y[base + c] = x[base + c] * scale * weight[c];
  }
}
