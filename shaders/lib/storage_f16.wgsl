// Loads the operand B from f16 storage, two to a u32, the low half first. Indices count elements; load_b4 reads four
// neighbours, whose first index is a multiple of 4.
// Needs: nothing.

@group(0) @binding(2) var<storage, read> b: array<vec2<u32>>;

fn load_b4(index: u32) -> vec4<f32> {
  let pairs = b[index / 4u];
  return vec4(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}

fn load_b1(index: u32) -> f32 {
  return load_b4(index)[index % 4u];
}
