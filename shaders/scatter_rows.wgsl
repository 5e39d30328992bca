// y[to, c] = x[from, c] for the pairs (from, to) of moves; no two rows go to the same place.
// Prelude: elements.wgsl.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> moves: array<vec2<u32>>; // [rows] from, to
@group(0) @binding(2) var<storage, read> x: array<f32>; // [tokens, columns]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [known rows, columns]

fn element_count(params: Params) -> u32 {
  return params.rows * params.columns;
}

fn element(at: u32, params: Params) {
  let row = moves[at / params.columns];
  let column = at % params.columns;
  y[row.y * params.columns + column] = x[row.x * params.columns + column];
}
