// The number of lanes that the driver really gives a workgroup of (8, 1, 1), the shape that the subgroup kernels use.
@group(0) @binding(0) var<storage, read_write> size: array<u32>;

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(subgroup_size) lanes: u32, @builtin(subgroup_invocation_id) lane: u32) {
  if (lane == 0u) {
    size[0] = lanes;
  }
}
