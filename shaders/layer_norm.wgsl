// y[r, c] = (x[r, c] - mean[r]) * rstd[r] * weight[c] + bias[c],
// mean[r] = mean_c x[r, c],  rstd[r] = 1 / sqrt(mean_c (x[r, c] - mean[r])^2 + eps)
// Prelude: rows.wgsl. Loops take four elements a turn (docs/software_driver.md, Loops).

struct Params { rows: u32, columns: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, columns]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [columns]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [columns]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [rows, columns]
@group(0) @binding(5) var<storage, read_write> moments: array<vec2<f32>>; // [rows] (mean, rstd)

fn row_count() -> u32 {
  return params.rows;
}

fn work_on(row: u32, lane: u32) {
  let columns = params.columns;
  let base = row * columns;
  var sum = 0.0;
  for (var first = lane; first < columns; first += $(4 * LANES)u) {
    var part = 0.0; // summed apart, so that long rows keep their digits
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < columns) {
          part += x[base + c];
        }
      }
    }
    sum += part;
  }
  let near = row_sum(sum, lane) / f32(columns);
  // The deviations give what rounding of long sums left out of the mean.
  var rest = 0.0;
  var squares = 0.0;
  for (var first = lane; first < columns; first += $(4 * LANES)u) {
    var rest_part = 0.0;
    var part = 0.0;
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < columns) {
          let deviation = x[base + c] - near;
          rest_part += deviation;
          part = fma(deviation, deviation, part);
        }
      }
    }
    rest += rest_part;
    squares += part;
  }
  let shift = row_sum(rest, lane) / f32(columns);
  let mean = near + shift;
  let rstd = 1.0 / sqrt(row_sum(squares, lane) / f32(columns) - shift * shift + params.eps);
  if (lane == 0u) {
    moments[row] = vec2(mean, rstd);
  }
  for (var first = lane; first < columns; first += $(4 * LANES)u) {
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < columns) {
          y[base + c] = fma((x[base + c] - mean) * rstd, weight[c], bias[c]);
        }
      }
    }
  }
}
