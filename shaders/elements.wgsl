// Prelude of elementwise kernels: calls the kernel's element(at, params) for every `at` below its element_count(params).
// A workgroup of 64 invocations walks 256 neighbouring elements; workgroups are dispatched folded over x and y.

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let once = params; // the software driver would load what is read again for every element
  let first = (group.y * groups.x + group.x) * 256u + local;
  @unroll(i, 0, 4) {
  if (first + $(i * 64)u < element_count(once)) {
    element(first + $(i * 64)u, once);
  }
  }
}
