// y = gelu_tanh(x)
// Preludes: chunks.wgsl, elements.wgsl, gelu.wgsl.

struct Params { count: u32 } // chunks

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Chunk>; // [count]
@group(0) @binding(2) var<storage, read_write> y: array<Chunk>; // [count]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = first_element(group, groups, local);
  @unroll(i, 0, 4) {
  {
    let at = first + $(i * 64)u;
    if (at < params.count) {
      y[at] = gelu_tanh(x[at]);
    }
  }
  }
}
