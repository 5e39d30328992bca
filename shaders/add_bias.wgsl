// y[r, c] += bias[c]
// Prelude: elements.wgsl.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> bias: array<f32>; // [columns]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, columns]

fn element_count(params: Params) -> u32 {
  return params.rows * params.columns;
}

fn element(at: u32, params: Params) {
  y[at] += bias[at % params.columns];
}
