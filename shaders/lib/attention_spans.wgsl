// Prelude of all attention kernels: what a token sees. Spans tell places of keys; a token's own key has the token's index
// for its place, or where PLACED is 1 stands at places[token]: keys that no token of the stream has lie between.
// Needs: PLACED, WINDOWED; of the kernel spans, positions, places where PLACED is 1, params.window.

fn place_of(token: u32) -> u32 {
  @if (PLACED == 1) {
    return places[token];
  } @else {
    return token;
  }
}

// The token's span less what lies `window` positions or more behind. Positions count up by one in either of its ranges,
// so what is left of each is its end.
fn span_of(token: u32) -> vec4<u32> {
  var span = spans[token];
  @if (WINDOWED == 1) {
    let position = positions[token];
    let lowest = position + 1u - min(position + 1u, params.window);
    @if (PLACED == 1) {
      let prefix_position = 0u;
    } @else {
      let prefix_position = positions[span.x];
    }
    span.x = min(span.x + lowest - min(lowest, prefix_position), span.y);
    let own = place_of(token);
    span.z = max(span.z, own + 1u - min(own + 1u, params.window));
  }
  return span;
}

// Whether a token whose own key stands at `own` sees any of the keys [key, key + count).
fn sees_any(own: u32, span: vec4<u32>, key: u32, count: u32) -> bool {
  return (key + count > span.x && key < span.y) || (key + count > span.z && key <= own);
}

fn sees(own: u32, span: vec4<u32>, key: u32) -> bool {
  return sees_any(own, span, key, 1u);
}
