// y[to, c] = x[from, c] for the pairs (from, to) of moves; no two rows go to the same place.
// Prelude: elements.wgsl.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> moves: array<vec2<u32>>; // [rows] from, to
@group(0) @binding(2) var<storage, read> x: array<f32>; // [tokens, columns]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [known rows, columns]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = first_element(group, groups, local);
  @unroll(i, 0, 4) {
  {
    let at = first + $(i * 64)u;
    if (at < params.rows * params.columns) {
      let row = moves[at / params.columns];
      let column = at % params.columns;
      y[row.y * params.columns + column] = x[row.x * params.columns + column];
    }
  }
  }
}
