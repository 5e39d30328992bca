// Prelude of the attention kernels for the software driver.
// Needs: WIDTH; Chunk of chunks.wgsl.

// sum + dot(a, b), in nested steps: faster there than `dot`.
@if (WIDTH == 4) {
  fn plus_inner(sum: f32, a: Chunk, b: Chunk) -> f32 { return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum)))); }
} @else {
  fn plus_inner(sum: f32, a: Chunk, b: Chunk) -> f32 { return fma(a, b, sum); }
}
