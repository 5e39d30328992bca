// In place: logits[r, c] becomes d_logits = coefficient * ((c == target) - softmax(logits)[c]), coefficient being the
// loss's gradient with respect to each token's log-prob of the row's sequence.
// Where SOFTCAP is 1, softmax is of soft_cap(logits, softcap) and its derivative follows.
// Preludes: rows.wgsl, soft_cap.wgsl. Loops take four elements a turn (docs/software_driver.md, Loops).

struct Params { rows: u32, columns: u32, stride: u32, first_id: u32, softcap: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> targets: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read> state: array<vec4<f32>>; // [rows], whole vocabulary
@group(0) @binding(3) var<storage, read> row_sequences: array<u32>; // [rows]
@group(0) @binding(4) var<storage, read> coefficients: array<f32>; // [sequences]
@group(0) @binding(5) var<storage, read_write> logits: array<f32>; // [rows, stride]

fn row_count() -> u32 {
  return params.rows;
}

fn work_on(row: u32, lane: u32) {
  let base = row * params.stride;
  let peak = state[row].x;
  let coefficient = coefficients[row_sequences[row]];
  let scale = coefficient / state[row].y;
  let target_column = targets[row] - params.first_id;
  for (var first = lane; first < params.columns; first += $(4 * LANES)u) {
    @unroll(i, 0, 4) {
      {
        let c = first + $(i * LANES)u;
        if (c < params.columns) {
          let hit = select(0.0, coefficient, c == target_column);
          @if (SOFTCAP == 1) {
            let logit = soft_cap(logits[base + c], params.softcap);
            logits[base + c] = (hit - scale * exp(logit - peak)) * soft_cap_slope(logit, params.softcap);
          } @else {
            logits[base + c] = hit - scale * exp(logits[base + c] - peak);
          }
        }
      }
    }
  }
}
