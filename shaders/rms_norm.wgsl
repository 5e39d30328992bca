// y[r, c] = x[r, c] * rstd[r] * weight[c],  rstd[r] = 1 / sqrt(mean_c x[r, c]^2 + eps)
// Prelude: rows.wgsl.

struct Params { rows: u32, columns: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [columns]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, columns]
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>; // [rows]

@compute @workgroup_size($(LANES * ROWS), 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = row_of(group, groups, local);
  if (row >= params.rows) {
    return;
  }
  let lane = lane_of(local);
  let columns = params.columns;
  let base = row * columns;
  var squares = 0.0;
  for (var c = lane; c < columns; c += $(LANES)u) {
    let value = x[base + c];
    squares = fma(value, value, squares);
  }
  let scale = 1.0 / sqrt(row_sum(squares, lane) / f32(columns) + params.eps);
  if (lane == 0u) {
    rstd[row] = scale;
  }
  for (var c = lane; c < columns; c += $(LANES)u) {
    y[base + c] = x[base + c] * scale * weight[c];
  }
}
