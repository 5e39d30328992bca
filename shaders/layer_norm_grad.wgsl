// d_x[r, c] += rstd[r] * (g - mean_c(g) - xhat * mean_c(g * xhat)),
// g = d_y[r, c] * weight[c],  xhat = (x[r, c] - mean[r]) * rstd[r]
// Adds to d_x, which holds the gradient that came past the norm along the residual stream.
// Prelude: rows.wgsl. Loops take four elements a turn (docs/software_driver.md, Loops).

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [columns]
@group(0) @binding(3) var<storage, read> moments: array<vec2<f32>>; // [rows] (mean, rstd)
@group(0) @binding(4) var<storage, read> d_y: array<f32>; // [rows, columns]
@group(0) @binding(5) var<storage, read_write> d_x: array<f32>; // [rows, columns]

fn row_count() -> u32 {
  return params.rows;
}

fn work_on(row: u32, lane: u32) {
  let columns = params.columns;
  let base = row * columns;
  let mean = moments[row].x;
  let rstd = moments[row].y;
  var sum = 0.0;
  var dot = 0.0;
  for (var first = lane; first < columns; first += $(4 * LANES)u) {
    var sum_part = 0.0; // summed apart, so that long rows keep their digits
    var dot_part = 0.0;
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < columns) {
          let g = d_y[base + c] * weight[c];
          sum_part += g;
          dot_part = fma(g, (x[base + c] - mean) * rstd, dot_part);
        }
      }
    }
    sum += sum_part;
    dot += dot_part;
  }
  let shift = row_sum(sum, lane) / f32(columns);
  let pull = row_sum(dot, lane) / f32(columns);
  for (var first = lane; first < columns; first += $(4 * LANES)u) {
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < columns) {
          d_x[base + c] += rstd * (d_y[base + c] * weight[c] - shift - (x[base + c] - mean) * rstd * pull);
        }
      }
    }
  }
}
