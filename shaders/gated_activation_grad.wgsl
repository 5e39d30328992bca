// In place: gate becomes d_gate = d_y * up * act'(g), up becomes d_up = d_y * act(g); y = act(g) * up is made again. With
// s = sigmoid(g), silu has act(g) = g s, act'(g) = s + g s (1 - s); gelu_tanh, where GELU is 1, is in gelu.wgsl.
// Preludes: chunks.wgsl, elements.wgsl, gelu.wgsl, activated.wgsl.

struct Params { count: u32 } // chunks

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> d_y: array<Chunk>; // [count]
@group(0) @binding(2) var<storage, read_write> gate: array<Chunk>; // [count]
@group(0) @binding(3) var<storage, read_write> up: array<Chunk>; // [count]
@group(0) @binding(4) var<storage, read_write> y: array<Chunk>; // [count]

fn element_count(params: Params) -> u32 {
  return params.count;
}

fn element(at: u32, params: Params) {
  let g = gate[at];
  let u = up[at];
  let d = d_y[at];
  let act = activated(g);
  @if (GELU == 1) {
    let slope = gelu_tanh_slope(g);
  } @else {
    let share = 1.0 / (1.0 + exp(-g));
    let slope = fma(g * share, 1.0 - share, share);
  }
  gate[at] = d * u * slope;
  up[at] = d * act;
  y[at] = act * u;
}
