// Gradient of attention with respect to keys and values as attention_grad_key.wgsl has it, for GPUs: see
// attention_tiles.wgsl; rows are keys, columns queries, of all heads of the keys' group in turn.
// Dispatch: ceil(tokens / 32) * kv_heads workgroups, folded.

struct Params { tokens: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<f32>; // [tokens, kv_heads, head_dim]
@group(0) @binding(3) var<storage, read> v: array<f32>; // [tokens, kv_heads, head_dim]
@group(0) @binding(4) var<storage, read> d_o: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(5) var<storage, read> lse: array<f32>; // [tokens, heads]
@group(0) @binding(6) var<storage, read> delta: array<f32>; // [tokens, heads]
@group(0) @binding(7) var<storage, read> spans: array<vec4<u32>>; // [tokens] prefix_start, prefix_end, segment_start, queries_end
@group(0) @binding(8) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(9) var<storage, read_write> d_k: array<f32>; // [tokens, kv_heads, head_dim]
@group(0) @binding(10) var<storage, read_write> d_v: array<f32>; // [tokens, kv_heads, head_dim]

fn q_at(token: u32, head: u32, element: u32) -> f32 {
  return select(0.0, q[(min(token, params.tokens - 1u) * params.heads + head) * $(HD)u + element], element < $(HD)u);
}
fn d_o_at(token: u32, head: u32, element: u32) -> f32 {
  return select(0.0, d_o[(min(token, params.tokens - 1u) * params.heads + head) * $(HD)u + element], element < $(HD)u);
}
fn k_at(token: u32, head: u32, element: u32) -> f32 {
  return select(0.0, k[(min(token, params.tokens - 1u) * params.kv_heads + head) * $(HD)u + element], element < $(HD)u);
}
fn v_at(token: u32, head: u32, element: u32) -> f32 {
  return select(0.0, v[(min(token, params.tokens - 1u) * params.kv_heads + head) * $(HD)u + element], element < $(HD)u);
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.y * groups.x + group.x;
  let x = local.x;
  let y = local.y;
  let thread = 8u * y + x;
  let end = params.tokens;
  let kv_head = index % params.kv_heads;
  let members = params.heads / params.kv_heads;
  let first = index / params.kv_heads * BLOCK;
  if (first >= end) {
    return;
  }
  let last = min(first + BLOCK, end) - 1u;
  var queries_end = 0u;
  for (var token = first; token <= last; token++) {
    queries_end = max(queries_end, spans[token].w);
  }
  @unroll(i, 0, 4) {
    let row$i = min(first + 4u * y + $(i)u, last); // spare rows repeat the last token: barriers need all invocations
  }
  @unroll(n, 0, SLICES) {
    var dk$n = mat4x4<f32>();
    var dv$n = mat4x4<f32>();
  }

  for (var head = kv_head * members; head < (kv_head + 1u) * members; head++) {
    var query = first;
    loop {
      while (query < queries_end && !any_sees(query, min(query + BLOCK, end), first)) {
        query += BLOCK;
      }
      if (query >= queries_end) {
        break;
      }
      var s = mat4x4<f32>();
      var dp = mat4x4<f32>();
      for (var slice = 0u; slice < $(HD)u; slice += 32u) {
        for (var t = thread; t < 256u; t += 64u) {
          let element = slice + t % BLOCK;
          let token = first + t / BLOCK * 4u;
          row_tile[t % BLOCK * STRIDE + t / BLOCK] = vec4(k_at(token, kv_head, element), k_at(token + 1u, kv_head, element), k_at(token + 2u, kv_head, element), k_at(token + 3u, kv_head, element));
        }
        for (var t = thread; t < 256u; t += 64u) {
          let element = slice + t % BLOCK;
          let token = query + t / BLOCK * 4u;
          column_tile[t % BLOCK * STRIDE + t / BLOCK] = vec4(q_at(token, head, element), q_at(token + 1u, head, element), q_at(token + 2u, head, element), q_at(token + 3u, head, element));
        }
        workgroupBarrier();
        s += tile_product(x, y);
        workgroupBarrier();
        for (var t = thread; t < 256u; t += 64u) {
          let element = slice + t % BLOCK;
          let token = first + t / BLOCK * 4u;
          row_tile[t % BLOCK * STRIDE + t / BLOCK] = vec4(v_at(token, kv_head, element), v_at(token + 1u, kv_head, element), v_at(token + 2u, kv_head, element), v_at(token + 3u, kv_head, element));
        }
        for (var t = thread; t < 256u; t += 64u) {
          let element = slice + t % BLOCK;
          let token = query + t / BLOCK * 4u;
          column_tile[t % BLOCK * STRIDE + t / BLOCK] = vec4(d_o_at(token, head, element), d_o_at(token + 1u, head, element), d_o_at(token + 2u, head, element), d_o_at(token + 3u, head, element));
        }
        workgroupBarrier();
        dp += tile_product(x, y);
        workgroupBarrier();
      }
      @unroll(j, 0, 4) {
        let query$j = query + 4u * x + $(j)u;
        let token$j = min(query$j, end - 1u);
        let span$j = span_of(token$j);
        @unroll(i, 0, 4) {
          let seen$i_$j = query$j < end && sees(query$j, span$j, row$i);
        }
        let lse$j = lse[token$j * params.heads + head];
        let delta$j = delta[token$j * params.heads + head];
      }
      let column_lse = vec4(lse0, lse1, lse2, lse3);
      let column_delta = vec4(delta0, delta1, delta2, delta3);
      @unroll(i, 0, 4) {
        let seen$i = vec4(seen$i_0, seen$i_1, seen$i_2, seen$i_3);
        let s$i = score(s[$i]);
        let p$i = select(vec4(0.0), exp(s$i - column_lse), seen$i);
        let ds$i = p$i * (dp[$i] - column_delta) * score_slope(s$i);
      }
      store_transposed(mat4x4(p0, p1, p2, p3), x, y);
      @unroll(n, 0, SLICES) {
        for (var t = thread; t < 256u; t += 64u) {
          let element = $(32 * n)u + t % 8u * 4u;
          let token = query + t / 8u;
          column_tile[t / 8u * STRIDE + t % 8u] = vec4(d_o_at(token, head, element), d_o_at(token, head, element + 1u), d_o_at(token, head, element + 2u), d_o_at(token, head, element + 3u));
        }
        workgroupBarrier();
        dv$n += tile_product(x, y);
        workgroupBarrier();
      }
      store_transposed(mat4x4(ds0, ds1, ds2, ds3), x, y);
      @unroll(n, 0, SLICES) {
        for (var t = thread; t < 256u; t += 64u) {
          let element = $(32 * n)u + t % 8u * 4u;
          let token = query + t / 8u;
          column_tile[t / 8u * STRIDE + t % 8u] = vec4(q_at(token, head, element), q_at(token, head, element + 1u), q_at(token, head, element + 2u), q_at(token, head, element + 3u));
        }
        workgroupBarrier();
        dk$n += tile_product(x, y);
        workgroupBarrier();
      }
      query += BLOCK;
    }
  }

  @unroll(i, 0, 4) {
    if (first + 4u * y + $(i)u < end) {
      let row = row$i * params.kv_heads + kv_head;
      @unroll(n, 0, SLICES) {
        @unroll(j, 0, 4) {
          if ($(32 * n + j)u + 4u * x < $(HD)u) {
            d_k[row * $(HD)u + $(32 * n + j)u + 4u * x] = dk$n[$i][$j] * params.scale;
            d_v[row * $(HD)u + $(32 * n + j)u + 4u * x] = dv$n[$i][$j];
          }
        }
      }
    }
  }
}
