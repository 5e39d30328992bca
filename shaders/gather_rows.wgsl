// y[r, c] = x[indices[r], c]
// Prelude: elements.wgsl.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> indices: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read> x: array<f32>; // [tokens, columns]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, columns]

fn element_count(params: Params) -> u32 {
  return params.rows * params.columns;
}

fn element(at: u32, params: Params) {
  y[at] = x[indices[at / params.columns] * params.columns + at % params.columns];
}
