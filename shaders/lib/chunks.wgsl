// Prelude of kernels that read rows in chunks: 4 elements where WIDTH is 4, which the software driver loads in little more
// time than one, else 1.
// Needs: WIDTH.

@if (WIDTH == 4) { alias Chunk = vec4<f32>; } @else { alias Chunk = f32; }

fn chunk_sum(chunk: Chunk) -> f32 {
  @if (WIDTH == 4) { return (chunk.x + chunk.y) + (chunk.z + chunk.w); } @else { return chunk; }
}
