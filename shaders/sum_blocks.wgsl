// sums[first + b] = sum over block b of x (SQUARE = 0) or of x^2 (SQUARE = 1); blocks of 4096 elements.
// Prelude: rows.wgsl, a block being a row.

struct Params { count: u32, first: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [count]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>; // [blocks]

fn row_count() -> u32 {
  return (params.count + 4095u) / 4096u;
}

fn work_on(block: u32, lane: u32) {
  let end = min((block + 1u) * 4096u, params.count);
  var sum = 0.0;
  // runs of 64 lanes' worth keep the digits of long sums
  for (var start = block * 4096u; start < end; start += $(64 * LANES)u) {
    var part = 0.0;
    for (var i = start + lane; i < min(start + $(64 * LANES)u, end); i += $(LANES)u) {
      let value = x[i];
      part += @if (SQUARE == 1) { value * value } @else { value };
    }
    sum += part;
  }
  let total = row_sum(sum, lane);
  if (lane == 0u) {
    sums[params.first + block] = total;
  }
}
