// In place: x becomes d_x = d_y * gelu_tanh'(x); y = gelu_tanh(x) is made again.
// Preludes: chunks.wgsl, elements.wgsl, gelu.wgsl.

struct Params { count: u32 } // chunks

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> d_y: array<Chunk>; // [count]
@group(0) @binding(2) var<storage, read_write> x: array<Chunk>; // [count]
@group(0) @binding(3) var<storage, read_write> y: array<Chunk>; // [count]

fn element_count(params: Params) -> u32 {
  return params.count;
}

fn element(at: u32, params: Params) {
  let before = x[at];
  x[at] = d_y[at] * gelu_tanh_slope(before);
  y[at] = gelu_tanh(before);
}
