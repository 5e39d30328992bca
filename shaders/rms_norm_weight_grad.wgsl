// d_weight[c] += sum_r d_y[r, c] * x[r, c] * rstd[r]
// One invocation sums one column; workgroups of 8, folded.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read> rstd: array<f32>; // [rows]
@group(0) @binding(3) var<storage, read> d_y: array<f32>; // [rows, columns]
@group(0) @binding(4) var<storage, read_write> d_weight: array<f32>; // [columns]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x;
  if (column >= params.columns) {
    return;
  }
  var sum = 0.0;
  for (var r = 0u; r < params.rows; r++) {
    let at = r * params.columns + column;
    sum = fma(d_y[at] * x[at], rstd[r], sum);
  }
  d_weight[column] += sum;
}
