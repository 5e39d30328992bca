// Loads the operand B from bf16 storage, two to a u32, the low half first; a bf16 is the upper half of an f32. Indices
// count elements; load_b4 reads four neighbours, whose first index is a multiple of 4.
// Needs: nothing.

@group(0) @binding(2) var<storage, read> b: array<vec2<u32>>;

fn load_b4(index: u32) -> vec4<f32> {
  let pairs = b[index / 4u];
  return bitcast<vec4<f32>>(vec4(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));
}

fn load_b1(index: u32) -> f32 {
  return load_b4(index)[index % 4u];
}
