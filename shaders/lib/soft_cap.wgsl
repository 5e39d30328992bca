// Prelude: soft_cap(x, cap) = cap * tanh(x / cap), in f32's digits throughout: a quotient of polynomials near 0, where the
// exponentials would cancel, and no exponential that overflows far from it.
// Needs: nothing.

fn soft_cap(x: f32, cap: f32) -> f32 {
  let t = x / cap;
  let t2 = t * t;
  let near = t * fma(t2, t2 + 105.0, 945.0) / fma(t2, fma(15.0, t2, 420.0), 945.0);
  let far = 1.0 - 2.0 / (exp(2.0 * min(abs(t), 20.0)) + 1.0);
  return cap * select(select(far, -far, t < 0.0), near, t2 < 0.5);
}

// The derivative by x, of the capped value.
fn soft_cap_slope(capped: f32, cap: f32) -> f32 {
  let share = capped / cap;
  return fma(-share, share, 1.0);
}
