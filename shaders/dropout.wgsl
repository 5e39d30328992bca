// y (+)= x * keep / (1 - rate): element i is kept where hash(seed, stream, i) passes the rate, so that the backward
// pass makes the same mask again instead of reading it. The gradient is the same kernel applied to d_y.
// Prelude: elements.wgsl.

struct Params { count: u32, seed: u32, stream: u32, rate: f32, accumulate: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [count]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [count]

// PCG-RXS-M-XS, 32 bits (Jarzynski and Olano, Hash Functions for GPU Rendering, 2020)
fn pcg(input: u32) -> u32 {
  let state = input * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn element_count(params: Params) -> u32 {
  return params.count;
}

fn element(at: u32, params: Params) {
  let uniform01 = f32(pcg(at ^ pcg(params.seed ^ pcg(params.stream))) >> 8u) / 16777216.0;
  let value = select(0.0, x[at] / (1.0 - params.rate), uniform01 >= params.rate);
  if (params.accumulate == 1u) {
    y[at] += value;
  } else {
    y[at] = value;
  }
}
