// d_weight[c] += sum_r d_y[r, c] * (x[r, c] - mean[r]) * rstd[r]; the bias's gradient is sum_rows.wgsl of d_y.
// One invocation sums one column, four rows a turn (docs/software_driver.md, Loops).
// Workgroups of 8, folded.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read> moments: array<vec2<f32>>; // [rows] (mean, rstd)
@group(0) @binding(3) var<storage, read> d_y: array<f32>; // [rows, columns]
@group(0) @binding(4) var<storage, read_write> d_weight: array<f32>; // [columns]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let column = (group.y * groups.x + group.x) * 8u + local;
  if (column >= params.columns) {
    return;
  }
  var sum = 0.0;
  for (var first = 0u; first < params.rows; first += 4u) {
    var part = 0.0; // summed apart, so that many rows keep their digits
    @unroll(i, 0, 4) {
      if (first + $(i)u < params.rows) {
        let at = (first + $(i)u) * params.columns + column;
        let moment = moments[first + $(i)u];
        part = fma(d_y[at] * (x[at] - moment.x), moment.y, part);
      }
    }
    sum += part;
  }
  d_weight[column] += sum;
}
