// y = activated(gate) * up
// Preludes: chunks.wgsl, elements.wgsl, gelu.wgsl, activated.wgsl.

struct Params { count: u32 } // chunks

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<Chunk>; // [count]
@group(0) @binding(2) var<storage, read> up: array<Chunk>; // [count]
@group(0) @binding(3) var<storage, read_write> y: array<Chunk>; // [count]

fn element_count(params: Params) -> u32 {
  return params.count;
}

fn element(at: u32, params: Params) {
  y[at] = activated(gate[at]) * up[at];
}
