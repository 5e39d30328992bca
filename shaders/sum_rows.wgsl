// sums[c] += sum_r x[r, c]
// One invocation sums one column; one workgroup of 64 covers 64 columns.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>; // [columns]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= params.columns) {
    return;
  }
  var sum = 0.0;
  for (var r = 0u; r < params.rows; r++) {
    sum += x[r * params.columns + id.x];
  }
  sums[id.x] += sum;
}
