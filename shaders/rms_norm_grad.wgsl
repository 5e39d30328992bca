// d_x[r, c] += rstd[r] * (g - xhat * mean_c(g * xhat)),  g = d_y[r, c] * gain[c],  xhat = x[r, c] * rstd[r]
// gain = weight, or 1 + weight where OFFSET is 1.
// Adds to d_x, which holds the gradient that came past the norm along the residual stream.
// Preludes: chunks.wgsl, rows.wgsl. Loops take four chunks a turn (docs/software_driver.md, Loops).

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Chunk>; // [rows, columns]
@group(0) @binding(2) var<storage, read> weight: array<Chunk>; // [columns]
@group(0) @binding(3) var<storage, read> rstd: array<f32>; // [rows]
@group(0) @binding(4) var<storage, read> d_y: array<Chunk>; // [rows, columns]
@group(0) @binding(5) var<storage, read_write> d_x: array<Chunk>; // [rows, columns]

fn gain(c: u32) -> Chunk {
  @if (OFFSET == 1) { return 1.0 + weight[c]; } @else { return weight[c]; }
}

fn row_count() -> u32 {
  return params.rows;
}

fn work_on(row: u32, lane: u32) {
  let chunks = params.columns / $(WIDTH)u;
  let base = row * chunks;
  let scale = rstd[row];
  var dot = Chunk();
  for (var first = lane; first < chunks; first += $(4 * LANES)u) {
    var part = Chunk(); // summed apart, so that long rows keep their digits
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < chunks) {
          part = fma(d_y[base + c] * gain(c), x[base + c], part);
        }
      }
    }
    dot += part;
  }
  // mean(g * xhat) * rstd, with one rstd of xhat taken out of the sum
  let pull = row_sum(chunk_sum(dot), lane) / f32(params.columns) * scale * scale;
  for (var first = lane; first < chunks; first += $(4 * LANES)u) {
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < chunks) {
          d_x[base + c] += scale * (d_y[base + c] * gain(c) - x[base + c] * pull);
        }
      }
    }
  }
}
