// Prelude of elementwise kernels: a workgroup of 64 invocations walks 256 neighbouring elements; workgroups are
// dispatched folded over x and y.

fn first_element(group: vec3<u32>, groups: vec3<u32>, local: u32) -> u32 {
  return (group.y * groups.x + group.x) * 256u + local;
}
