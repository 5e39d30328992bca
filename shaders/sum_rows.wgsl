// sums[c] += sum_r x[r, c]
// One invocation sums one column, four rows a turn (docs/software_driver.md, Loops).
// One workgroup of 64 covers 64 columns.

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
  for (var first = 0u; first < params.rows; first += 4u) {
    var part = 0.0; // summed apart, so that many rows keep their digits
    @unroll(i, 0, 4) {
      if (first + $(i)u < params.rows) {
        part += x[(first + $(i)u) * params.columns + id.x];
      }
    }
    sum += part;
  }
  sums[id.x] += sum;
}
