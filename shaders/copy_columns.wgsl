// y[r, y_first + c] = x[r, x_first + c] for c < columns: takes columns out of a wider matrix, or puts them into one.
// Prelude: elements.wgsl.

struct Params { rows: u32, columns: u32, x_stride: u32, x_first: u32, y_stride: u32, y_first: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, x_stride]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, y_stride]

fn element_count(params: Params) -> u32 {
  return params.rows * params.columns;
}

fn element(at: u32, params: Params) {
  let row = at / params.columns;
  let column = at % params.columns;
  y[row * params.y_stride + params.y_first + column] = x[row * params.x_stride + params.x_first + column];
}
