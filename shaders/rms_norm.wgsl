// y[r, c] = x[r, c] * rstd[r] * gain[c],  rstd[r] = 1 / sqrt(mean_c x[r, c]^2 + eps)
// gain = weight, or 1 + weight where OFFSET is 1, as Gemma stores it.
// Preludes: chunks.wgsl, rows.wgsl. Loops take four chunks a turn (docs/software_driver.md, Loops).

struct Params { rows: u32, columns: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Chunk>; // [rows, columns]
@group(0) @binding(2) var<storage, read> weight: array<Chunk>; // [columns]
@group(0) @binding(3) var<storage, read_write> y: array<Chunk>; // [rows, columns]
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>; // [rows]

fn gain(c: u32) -> Chunk {
  @if (OFFSET == 1) { return 1.0 + weight[c]; } @else { return weight[c]; }
}

fn row_count() -> u32 {
  return params.rows;
}

fn work_on(row: u32, lane: u32) {
  let chunks = params.columns / $(WIDTH)u;
  let base = row * chunks;
  var squares = Chunk();
  for (var first = lane; first < chunks; first += $(4 * LANES)u) {
    var part = Chunk(); // summed apart, so that long rows keep their digits
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < chunks) {
          let value = x[base + c];
          part = fma(value, value, part);
        }
      }
    }
    squares += part;
  }
  let scale = 1.0 / sqrt(row_sum(chunk_sum(squares), lane) / f32(params.columns) + params.eps);
  if (lane == 0u) {
    rstd[row] = scale;
  }
  for (var first = lane; first < chunks; first += $(4 * LANES)u) {
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < chunks) {
          y[base + c] = x[base + c] * scale * gain(c);
        }
      }
    }
  }
}
