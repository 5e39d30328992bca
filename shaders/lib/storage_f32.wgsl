// Loads the operand B from f32 storage. Indices count elements; load_b4 reads four neighbours, whose first index is a
// multiple of 4 where ALIGNED is 1.
// Needs: ALIGNED.

@if (ALIGNED == 1) {
  @group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;

  fn load_b4(index: u32) -> vec4<f32> {
    return b[index / 4u];
  }

  fn load_b1(index: u32) -> f32 {
    return b[index / 4u][index % 4u];
  }
} @else {
  @group(0) @binding(2) var<storage, read> b: array<f32>;

  fn load_b4(index: u32) -> vec4<f32> {
    return vec4(b[index], b[index + 1u], b[index + 2u], b[index + 3u]);
  }

  fn load_b1(index: u32) -> f32 {
    return b[index];
  }
}
