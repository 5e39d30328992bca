// d_table[ids[u], c] += scale * sum over the tokens of that id of d_x[t, c]
// The host lists each distinct id once with its tokens, so no two invocations write one element and no atomics are needed.
// One invocation sums one column of one distinct id, four tokens a turn (docs/software_driver.md, Loops). Workgroups of
// 64, folded.

struct Params { distinct: u32, columns: u32, first_row: u32, row_count: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>; // [distinct]
@group(0) @binding(2) var<storage, read> id_offsets: array<u32>; // [distinct + 1], into id_tokens
@group(0) @binding(3) var<storage, read> id_tokens: array<u32>; // [tokens]
@group(0) @binding(4) var<storage, read> d_x: array<f32>; // [tokens, columns]
@group(0) @binding(5) var<storage, read_write> d_table: array<f32>; // [row_count, columns]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let index = (group.y * groups.x + group.x) * 64u + local;
  if (index >= params.distinct * params.columns) {
    return;
  }
  let which = index / params.columns;
  let column = index % params.columns;
  let row = ids[which] - params.first_row;
  if (row >= params.row_count) {
    return;
  }
  var sum = 0.0;
  let end = id_offsets[which + 1u];
  for (var first = id_offsets[which]; first < end; first += 4u) {
    var part = 0.0; // summed apart, so that many tokens keep their digits
    @unroll(i, 0, 4) {
      if (first + $(i)u < end) {
        part += d_x[id_tokens[first + $(i)u] * params.columns + column];
      }
    }
    sum += part;
  }
  d_table[row * params.columns + column] += params.scale * sum;
}
