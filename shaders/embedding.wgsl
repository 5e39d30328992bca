// x[t, c] = scale * table[token_ids[t], c], or x[t, c] += that where `accumulate` is 1, for the tokens whose id lies in
// this run of the table's rows; a table larger than one binding is walked run by run, and every token is written by
// exactly one of them.
// Preludes: elements.wgsl, and storage_*.wgsl for the table, which stands there as b [row_count, columns].

struct Params { tokens: u32, columns: u32, first_row: u32, row_count: u32, scale: f32, accumulate: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> token_ids: array<u32>; // [tokens]
@group(0) @binding(3) var<storage, read_write> x: array<f32>; // [tokens, columns]

fn element_count(params: Params) -> u32 {
  return params.tokens * params.columns;
}

fn element(at: u32, params: Params) {
  let row = token_ids[at / params.columns] - params.first_row; // wraps to a large number below the run
  if (row < params.row_count) {
    let value = params.scale * load_b1(row * params.columns + at % params.columns);
    if (params.accumulate == 1u) {
      x[at] += value;
    } else {
      x[at] = value;
    }
  }
}
