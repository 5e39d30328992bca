// y[r, c] = known[sources[r] - KNOWN, c] where the source is KNOWN = 2^31 or more, else x[sources[r], c]
// Prelude: elements.wgsl.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> sources: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read> x: array<f32>; // [tokens, columns]
@group(0) @binding(3) var<storage, read> known: array<f32>; // [known rows, columns]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [rows, columns]

const KNOWN = 0x80000000u;

fn element_count(params: Params) -> u32 {
  return params.rows * params.columns;
}

fn element(at: u32, params: Params) {
  let source = sources[at / params.columns];
  let column = at % params.columns;
  if (source < KNOWN) {
    y[at] = x[source * params.columns + column];
  } else {
    y[at] = known[(source - KNOWN) * params.columns + column];
  }
}
