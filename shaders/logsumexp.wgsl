// Online log-sum-exp over the vocabulary, one chunk of logits at a time: state[r] = (peak, sum, target, total) with
// logsumexp = peak + log(sum), the target's logit, and the sum of all logits (a metric). Where SOFTCAP is 1 all this is of
// soft_cap(logit, softcap). Where BEST is 1, best[r] is the id of the largest logit so far, the smallest of equal ones; where
// COLLISIONS is 1, collisions[r] is the sum of exp(2 (logit - peak)) so far.
// Preludes: rows.wgsl, soft_cap.wgsl. Loops take four elements a turn (docs/software_driver.md, Loops).

struct Params { rows: u32, columns: u32, stride: u32, first_id: u32, softcap: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [rows, stride], columns of them live: ids first_id ...
@group(0) @binding(2) var<storage, read> targets: array<u32>; // [rows]
@group(0) @binding(3) var<storage, read_write> state: array<vec4<f32>>; // [rows]
@if (BEST == 1) {
  @group(0) @binding(4) var<storage, read_write> best: array<u32>; // [rows]
}
@if (COLLISIONS == 1) {
  @group(0) @binding($(4 + BEST)) var<storage, read_write> collisions: array<f32>; // [rows]
}

fn logit_at(index: u32) -> f32 {
  @if (SOFTCAP == 1) { return soft_cap(logits[index], params.softcap); } @else { return logits[index]; }
}

fn row_count() -> u32 {
  return params.rows;
}

fn work_on(row: u32, lane: u32) {
  let columns = params.columns;
  let base = row * params.stride;
  var before = vec4<f32>(-3.0e38, 0.0, 0.0, 0.0);
  if (params.first_id > 0u) {
    before = state[row];
  }
  var peak = -3.0e38;
  var total = 0.0;
  @if (BEST == 1) { var highest = 0u; }
  for (var first = lane; first < columns; first += $(4 * LANES)u) {
    var part = 0.0; // summed apart, so that long rows keep their digits
    @unroll(i, 0, 4) {
      if (first + $(i * LANES)u < columns) {
        let logit = logit_at(base + first + $(i * LANES)u);
        @if (BEST == 1) {
          if (logit > peak) {
            highest = first + $(i * LANES)u;
          }
        }
        peak = max(peak, logit);
        part += logit;
      }
    }
    total += part;
  }
  @if (BEST == 1) {
    let own = peak;
    peak = row_max(peak, lane);
    // the smallest column, as f32 holds it: a chunk has far fewer than 2^24
    let column = -row_max(select(-3.0e38, -f32(highest), own == peak), lane);
    if (lane == 0u && (params.first_id == 0u || peak > before.x)) {
      best[row] = params.first_id + u32(column);
    }
    peak = max(peak, before.x);
  } @else {
    peak = max(row_max(peak, lane), before.x);
  }
  total = row_sum(total, lane);
  var sum = 0.0;
  @if (COLLISIONS == 1) { var squares = 0.0; }
  for (var first = lane; first < columns; first += $(4 * LANES)u) {
    var part = 0.0;
    @unroll(i, 0, 4) {
      if (first + $(i * LANES)u < columns) {
        part += exp(logit_at(base + first + $(i * LANES)u) - peak);
        @if (COLLISIONS == 1) { squares += exp(2.0 * (logit_at(base + first + $(i * LANES)u) - peak)); }
      }
    }
    sum += part;
  }
  sum = row_sum(sum, lane);
  @if (COLLISIONS == 1) { squares = row_sum(squares, lane); }
  if (lane == 0u) {
    let target_column = targets[row] - params.first_id; // wraps to a large number below the chunk
    if (target_column < columns) {
      before.z = logit_at(base + target_column);
    }
    @if (COLLISIONS == 1) {
      if (params.first_id > 0u) {
        squares += collisions[row] * exp(2.0 * (before.x - peak));
      }
      collisions[row] = squares;
    }
    state[row] = vec4<f32>(peak, sum + before.y * exp(before.x - peak), before.z, before.w + total);
  }
}
