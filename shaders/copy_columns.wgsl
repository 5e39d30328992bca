// y[r, y_first + c] = x[r, x_first + c] for c < columns: takes columns out of a wider matrix, or puts them into one.
// Prelude: elements.wgsl.

struct Params { rows: u32, columns: u32, x_stride: u32, x_first: u32, y_stride: u32, y_first: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, x_stride]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, y_stride]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = first_element(group, groups, local);
  @unroll(i, 0, 4) {
  {
    let at = first + $(i * 64)u;
    if (at < params.rows * params.columns) {
      let row = at / params.columns;
      let column = at % params.columns;
      y[row * params.y_stride + params.y_first + column] = x[row * params.x_stride + params.x_first + column];
    }
  }
  }
}
