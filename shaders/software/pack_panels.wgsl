// P[n / COLUMNS, k, COLUMNS] = columns [first, last) of B [k, n]: what a workgroup of matmul_registers.wgsl reads lies side by
// side. One invocation copies 4 columns of 4 rows. Dispatch [ceil((last - first) / 256), ceil(k / 4), 1].

struct Params { k: u32, first: u32, last: u32, b_stride: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
// @binding(2) b is [k, n]; the storage prelude declares it
@group(0) @binding(1) var<storage, read_write> panels: array<vec4<f32>>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let p = params;
  let column = 4u * (64u * group.x + local.x);
  if (p.first + column >= p.last) {
    return;
  }
  let panel = column / $(COLUMNS)u * p.k;
  @unroll(i, 0, 4) {
    let k$i = min(4u * group.y + $(i)u, p.k - 1u);
    panels[(panel + k$i) * $(COLUMNS / 4)u + column / 4u % $(COLUMNS / 4)u] = load_b4(k$i * p.b_stride + p.first + column);
  }
}
