// y[r, c] += bias[c]
// Prelude: elements.wgsl.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> bias: array<f32>; // [columns]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, columns]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = first_element(group, groups, local);
  @unroll(i, 0, 4) {
  {
    let at = first + $(i * 64)u;
    if (at < params.rows * params.columns) {
      y[at] += bias[at % params.columns];
    }
  }
  }
}
