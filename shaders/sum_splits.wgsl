// C[m, n] = alpha * sum_s P[s, m, n] (+ C[m, n]), in the order of s: what workgroups made of shares of k.
// Prelude: elements.wgsl; an element is 4 neighbours of a row.

struct Params { m: u32, n: u32, splits: u32, c_stride: u32, accumulate: u32, alpha: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>; // [splits, m, n]
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>; // [m, c_stride]

fn element_count(params: Params) -> u32 {
  return params.m * (params.n / 4u);
}

fn element(at: u32, params: Params) {
  let width = params.n / 4u;
  var sum = vec4(0.0);
  for (var s = 0u; s < params.splits; s++) {
    sum += partials[s * params.m * width + at];
  }
  let to = at / width * (params.c_stride / 4u) + at % width;
  c[to] = fma(vec4(params.alpha), sum, select(vec4(0.0), c[to], params.accumulate == 1u));
}
