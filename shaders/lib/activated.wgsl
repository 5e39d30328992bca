// Prelude: what a gate lets through, silu(g) = g sigmoid(g), or gelu_tanh(g) where GELU is 1.
// Needs: GELU; Chunk of chunks.wgsl; gelu_tanh() of gelu.wgsl.

fn activated(g: Chunk) -> Chunk {
  @if (GELU == 1) {
    return gelu_tanh(g);
  } @else {
    return g / (1.0 + exp(-g));
  }
}
