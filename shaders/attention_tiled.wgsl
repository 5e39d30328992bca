// Attention as attention.wgsl has it, for GPUs: see attention_tiles.wgsl; rows are queries, columns keys.
// Dispatch: ceil(tokens / 32) * heads workgroups, folded.

struct Params { tokens: u32, keys: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<f32>; // [keys, kv_heads, head_dim]
@group(0) @binding(3) var<storage, read> v: array<f32>; // [keys, kv_heads, head_dim]
@group(0) @binding(4) var<storage, read> spans: array<vec4<u32>>; // [tokens] prefix_start, prefix_end, segment_start, queries_end
@group(0) @binding(5) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(6) var<storage, read_write> o: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(7) var<storage, read_write> lse: array<f32>; // [tokens, heads]
@if (PLACED == 1) {
  @group(0) @binding(8) var<storage, read> places: array<u32>; // [tokens]
}

var<workgroup> row_maxima: array<vec4<f32>, 64>; // [y, x], each of 4 rows
var<workgroup> row_sums: array<vec4<f32>, 64>;

fn q_at(token: u32, head: u32, element: u32) -> f32 {
  return select(0.0, q[(min(token, params.tokens - 1u) * params.heads + head) * $(HD)u + element], element < $(HD)u);
}
fn k_at(key: u32, head: u32, element: u32) -> f32 {
  return select(0.0, k[(min(key, params.keys - 1u) * params.kv_heads + head) * $(HD)u + element], element < $(HD)u);
}
fn v_at(key: u32, head: u32, element: u32) -> f32 {
  return select(0.0, v[(min(key, params.keys - 1u) * params.kv_heads + head) * $(HD)u + element], element < $(HD)u);
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.y * groups.x + group.x;
  let x = local.x;
  let y = local.y;
  let thread = 8u * y + x;
  let end = params.tokens;
  let head = index % params.heads;
  let kv_head = head / (params.heads / params.kv_heads);
  let first = index / params.heads * BLOCK;
  if (first >= end) {
    return;
  }
  let last = min(first + BLOCK, end) - 1u;
  @unroll(i, 0, 4) {
    let row$i = min(first + 4u * y + $(i)u, last); // spare rows repeat the last token: barriers need all invocations
    let span$i = span_of(row$i);
    let own$i = place_of(row$i);
  }
  var largest = vec4(LOWEST);
  var total = vec4(0.0);
  @unroll(n, 0, SLICES) { var o$n = mat4x4<f32>(); }

  // Spans never decrease along the stream, so the rows see keys of [key, prefix_end) and [segment_start, last_key] only.
  // Windows keep that true of segments, and of prefixes within one segment.
  let gaps = any(spans[first].xyz != spans[last].xyz);
  var key = select(span_of(first).x, spans[first].x, gaps);
  let prefix_end = spans[last].y;
  let segment_start = span_of(first).z;
  let last_key = place_of(last);
  loop {
    loop {
      if (key >= prefix_end) {
        key = max(key, segment_start);
      }
      if (!gaps || key > last_key || any_sees(first, last + 1u, key)) {
        break;
      }
      key += BLOCK;
    }
    if (key > last_key) {
      break;
    }
    var s = mat4x4<f32>();
    for (var slice = 0u; slice < $(HD)u; slice += 32u) {
      for (var t = thread; t < 256u; t += 64u) {
        let element = slice + t % BLOCK;
        let token = first + t / BLOCK * 4u;
        row_tile[t % BLOCK * STRIDE + t / BLOCK] = vec4(q_at(token, head, element), q_at(token + 1u, head, element), q_at(token + 2u, head, element), q_at(token + 3u, head, element));
      }
      for (var t = thread; t < 256u; t += 64u) {
        let element = slice + t % BLOCK;
        let token = key + t / BLOCK * 4u;
        column_tile[t % BLOCK * STRIDE + t / BLOCK] = vec4(k_at(token, kv_head, element), k_at(token + 1u, kv_head, element), k_at(token + 2u, kv_head, element), k_at(token + 3u, kv_head, element));
      }
      workgroupBarrier();
      s += tile_product(x, y);
      workgroupBarrier();
    }
    @unroll(j, 0, 4) {
      let key$j = key + 4u * x + $(j)u;
    }
    @unroll(i, 0, 4) {
      @unroll(j, 0, 4) {
        let seen$i_$j = sees(own$i, span$i, key$j);
      }
      let seen$i = vec4(seen$i_0, seen$i_1, seen$i_2, seen$i_3);
    }
    @unroll(i, 0, 4) {
      let s$i = select(vec4(LOWEST), score(s[$i]), seen$i);
      let maximum$i = max(max(s$i.x, s$i.y), max(s$i.z, s$i.w));
    }
    row_maxima[thread] = vec4(maximum0, maximum1, maximum2, maximum3);
    workgroupBarrier();
    var highest = largest;
    @unroll(j, 0, 8) { highest = max(highest, row_maxima[8u * y + $(j)u]); }
    let shrink = exp(largest - highest);
    largest = highest;
    @unroll(i, 0, 4) { let p$i = select(vec4(0.0), exp(s$i - highest[$i]), seen$i); }
    let p = mat4x4(p0, p1, p2, p3);
    store_transposed(p, x, y);
    row_sums[thread] = vec4(1.0) * p;
    @unroll(n, 0, SLICES) {
      for (var t = thread; t < 256u; t += 64u) {
        let element = $(32 * n)u + t % 8u * 4u;
        let token = key + t / 8u;
        column_tile[t / 8u * STRIDE + t % 8u] = vec4(v_at(token, kv_head, element), v_at(token, kv_head, element + 1u), v_at(token, kv_head, element + 2u), v_at(token, kv_head, element + 3u));
      }
      workgroupBarrier();
      o$n = scale_rows(o$n, shrink) + tile_product(x, y);
      workgroupBarrier();
    }
    total *= shrink;
    @unroll(j, 0, 8) { total += row_sums[8u * y + $(j)u]; }
    key += BLOCK;
  }

  @unroll(i, 0, 4) {
    if (first + 4u * y + $(i)u < end) {
      let row = row$i * params.heads + head;
      @unroll(n, 0, SLICES) {
        @unroll(j, 0, 4) {
          if ($(32 * n + j)u + 4u * x < $(HD)u) {
            o[row * $(HD)u + $(32 * n + j)u + 4u * x] = o$n[$i][$j] / total[$i];
          }
        }
      }
      if (x == 0u) {
        // One Newton step, since the log of some drivers is an approximation.
        let estimate = log(total[$i]);
        lse[row] = largest[$i] + estimate + (total[$i] * exp(-estimate) - 1.0);
      }
    }
  }
}
