// d_x[t, c] = sum over the rows r gathered from token t of d_y[r, c]; zero where there is none.
// A prompt's last token predicts the first token of every response, so its row is gathered several times.
// One invocation sums one element; workgroups of 64, folded.

struct Params { tokens: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> token_rows: array<u32>; // [tokens + 1], offsets into row_list
@group(0) @binding(2) var<storage, read> row_list: array<u32>; // [rows]
@group(0) @binding(3) var<storage, read> d_y: array<f32>; // [rows, columns]
@group(0) @binding(4) var<storage, read_write> d_x: array<f32>; // [tokens, columns]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (group.y * groups.x + group.x) * 64u + local;
  if (at >= params.tokens * params.columns) {
    return;
  }
  let token = at / params.columns;
  var sum = 0.0;
  for (var i = token_rows[token]; i < token_rows[token + 1u]; i++) {
    sum += d_y[row_list[i] * params.columns + at % params.columns];
  }
  d_x[at] = sum;
}
