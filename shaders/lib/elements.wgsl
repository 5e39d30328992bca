// Prelude of elementwise kernels: calls the kernel's element(at, params) for every `at` below its element_count(params).
// A workgroup walks 64 ELEMENTS neighbouring elements, each invocation every 64th; workgroups are dispatched folded.
// Needs: ELEMENTS; of the kernel params, element_count(), element().

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let once = params; // the software driver would load what is read again for every element
  let first = (group.y * groups.x + group.x) * $(64 * ELEMENTS)u + local;
  @unroll(i, 0, ELEMENTS) {
    if (first + $(i * 64)u < element_count(once)) {
      element(first + $(i * 64)u, once);
    }
  }
}
