// Prelude of all attention kernels: what a token sees.

// The token's span less what lies `window` positions or more behind. Positions count up by one in either of its ranges,
// so what is left of each is its end.
fn span_of(token: u32) -> vec4<u32> {
  var span = spans[token];
  @if (WINDOWED == 1) {
    let position = positions[token];
    let lowest = position + 1u - min(position + 1u, params.window);
    span.x = min(span.x + lowest - min(lowest, positions[span.x]), span.y);
    span.z = max(span.z, token + 1u - min(token + 1u, params.window));
  }
  return span;
}
