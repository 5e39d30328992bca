// Prelude of the attention_*_tiled kernels, for GPUs. A workgroup of 8 x 8 invocations owns BLOCK = 32 consecutive tokens
// of one head ("rows") and walks the tokens that they attend to, or that attend to them ("columns"), 32 at a time;
// invocation (x, y) holds rows 4 y .. 4 y + 3 against columns 4 x .. 4 x + 3, or against 4 elements of a head.
// Both tiles lie with the summed index first, 9 vec4 apart so that neighbours fall into different banks. A head is walked
// in SLICES slices of 32 elements.
// Needs: SOFTCAP; place_of(), span_of(), sees_any() of attention_spans.wgsl; soft_cap(), soft_cap_slope() of soft_cap.wgsl;
// of the kernel params.scale, params.softcap.

const BLOCK = 32u;
const STRIDE = 9u;
const LOWEST = -1e30;

var<workgroup> row_tile: array<vec4<f32>, 288>; // [summed index, rows / 4]
var<workgroup> column_tile: array<vec4<f32>, 288>; // [summed index, columns / 4]

// sum over the tiles' 32: vector i of the result is row 4 y + i against columns 4 x ..
fn tile_product(x: u32, y: u32) -> mat4x4<f32> {
  var c0 = vec4<f32>();
  var c1 = vec4<f32>();
  var c2 = vec4<f32>();
  var c3 = vec4<f32>();
  for (var n = 0u; n < BLOCK; n += 2u) {
    @unroll(i, 0, 2) {
      let row$i = row_tile[(n + $(i)u) * STRIDE + y];
      let column$i = column_tile[(n + $(i)u) * STRIDE + x];
      c0 = fma(vec4(row$i.x), column$i, c0);
      c1 = fma(vec4(row$i.y), column$i, c1);
      c2 = fma(vec4(row$i.z), column$i, c2);
      c3 = fma(vec4(row$i.w), column$i, c3);
    }
  }
  return mat4x4(c0, c1, c2, c3);
}

// Scores of products of queries and keys.
fn score(products: vec4<f32>) -> vec4<f32> {
  let s = products * params.scale;
  @if (SOFTCAP == 1) {
    let cap = params.softcap;
    return vec4(soft_cap(s.x, cap), soft_cap(s.y, cap), soft_cap(s.z, cap), soft_cap(s.w, cap));
  } @else {
    return s;
  }
}

// The derivative of the cap, by scores.
fn score_slope(s: vec4<f32>) -> vec4<f32> {
  @if (SOFTCAP == 1) {
    let cap = params.softcap;
    return vec4(soft_cap_slope(s.x, cap), soft_cap_slope(s.y, cap), soft_cap_slope(s.z, cap), soft_cap_slope(s.w, cap));
  } @else {
    return vec4<f32>(1.0);
  }
}

fn scale_rows(values: mat4x4<f32>, factors: vec4<f32>) -> mat4x4<f32> {
  return mat4x4(values[0] * factors.x, values[1] * factors.y, values[2] * factors.z, values[3] * factors.w);
}

// Makes rows of 32 x 32 values the tile that is summed over columns next.
fn store_transposed(values: mat4x4<f32>, x: u32, y: u32) {
  let columns = transpose(values);
  @unroll(j, 0, 4) { row_tile[(4u * x + $(j)u) * STRIDE + y] = columns[$j]; }
}

// Whether a query in [query, query_end) sees a key in [key, key + BLOCK).
fn any_sees(query: u32, query_end: u32, key: u32) -> bool {
  for (var i = query; i < query_end; i++) {
    if (sees_any(place_of(i), span_of(i), key, BLOCK)) {
      return true;
    }
  }
  return false;
}
