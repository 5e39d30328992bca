// Prelude: gelu_tanh(x) = 0.5 x (1 + tanh(u)),  u = sqrt(2 / pi) (x + 0.044715 x^3), which transformers calls gelu_new and
// gelu_pytorch_tanh. Written with sigmoid(2 u) in the place of 0.5 (1 + tanh(u)), which keeps its digits for negative x.
// Needs: Chunk of chunks.wgsl.

// sigmoid(2 u). Past 10 it is 1 or 0 in f32: nothing overflows.
fn gelu_share(x: Chunk) -> Chunk {
  let near = clamp(x, Chunk(-10.0), Chunk(10.0));
  return 1.0 / (1.0 + exp(-1.5957691216057308 * near * fma(0.044715 * near, near, Chunk(1.0))));
}

fn gelu_tanh(x: Chunk) -> Chunk {
  return x * gelu_share(x);
}

// The derivative of gelu_tanh.
fn gelu_tanh_slope(x: Chunk) -> Chunk {
  let near = clamp(x, Chunk(-10.0), Chunk(10.0));
  let share = gelu_share(x);
  return fma(near * share * (1.0 - share), 1.5957691216057308 * fma(0.134145 * near, near, Chunk(1.0)), share);
}
