// Gradient of attention (attention.wgsl) with respect to keys and values:
//   p[i, j] = exp(scale * dot(q[i], k[j]) - lse[i]),  ds[i, j] = p[i, j] * (dot(d_o[i], v[j]) - delta[i])
//   d_k[j] = scale * sum_i ds[i, j] * q[i],  d_v[j] = sum_i p[i, j] * d_o[i]
// summed over the query heads of the key's group, one head (`member`) a dispatch; all but the first add to what is there.
// (One dispatch for all would multiply the loop iterations, of which the software driver counts to 65,535.)
// Where SOFTCAP is 1 scores are capped as there, and ds has the cap's derivative as a factor.
// Preludes: chunks.wgsl, attention_lanes.wgsl, attention_spans.wgsl, soft_cap.wgsl.
//
// For the software driver, whose loads cost most, in time and in compilation: a workgroup computes 8
// consecutive keys of one key/value head, lane l key l; lane l loads query block + l, and the lanes pass queries around.
// A row of one head is read as CHUNKS chunks; dots walk SLICE of them at a time and an invocation computes SLICE chunks of
// its row, so that the straight-line code stays small. With SLICES 1 chunks are loaded once.
// Dispatch: ceil(tokens / 8) * kv_heads * SLICES workgroups, folded.

struct Params { tokens: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32, member: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> q: array<Chunk>; // [tokens, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<Chunk>; // [tokens, kv_heads, head_dim]
@group(0) @binding(3) var<storage, read> v: array<Chunk>; // [tokens, kv_heads, head_dim]
@group(0) @binding(4) var<storage, read> d_o: array<Chunk>; // [tokens, heads, head_dim]
@group(0) @binding(5) var<storage, read> lse: array<f32>; // [tokens, heads]
@group(0) @binding(6) var<storage, read> delta: array<f32>; // [tokens, heads]
@group(0) @binding(7) var<storage, read> spans: array<vec4<u32>>; // [tokens] prefix_start, prefix_end, segment_start, queries_end
@group(0) @binding(8) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(9) var<storage, read_write> d_k: array<Chunk>; // [tokens, kv_heads, head_dim]
@group(0) @binding(10) var<storage, read_write> d_v: array<Chunk>; // [tokens, kv_heads, head_dim]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.y * groups.x + group.x;
  let heads = params.heads;
  let kv_heads = params.kv_heads;
  let part = index % $(SLICES)u * $(SLICE)u;
  let kv_head = index / $(SLICES)u % kv_heads;
  let head = kv_head * (heads / kv_heads) + params.member;
  let first = index / $(SLICES)u / kv_heads * 8u;
  let end = params.tokens;
  if (first >= end) {
    return;
  }
  let lane = local.x;
  let token = min(first + lane, end - 1u); // spare lanes repeat the last token: shuffles need them
  let base = (token * kv_heads + kv_head) * $(CHUNKS)u;
  @unroll(c, 0, SLICE) {
    var k$c = Chunk(0.0);
    var v$c = Chunk(0.0);
  }
  @if (SLICES == 1) {
    // Few loads in a loop instead of one a chunk, since each takes milliseconds to compile.
    for (var load = 0u; load < $((SLICE + 3) / 4)u; load++) {
      @unroll(i, 0, 4) {
        let k_$i = k[base + load * 4u + $(i)u] * params.scale;
        let v_$i = v[base + load * 4u + $(i)u];
      }
      @unroll(c, 0, SLICE) {
        k$c = select(k$c, k_$(c % 4), load == $(c / 4)u);
        v$c = select(v$c, v_$(c % 4), load == $(c / 4)u);
      }
    }
  }
  @unroll(c, 0, SLICE) {
    var dk$c = Chunk(0.0);
    var dv$c = Chunk(0.0);
  }

  let queries_end = subgroupMax(spans[token].w);
  for (var query = first; query < queries_end; query += 8u) {
    let mine_token = min(query + lane, end - 1u);
    let mine_span = span_of(mine_token);
    // Keys of several segments leave gaps.
    if (subgroupAny((first + 8u > mine_span.x && first < mine_span.y) || (first + 8u > mine_span.z && first <= query + lane))) {
      let row = mine_token * heads + head;
      let mine = row * $(CHUNKS)u;
      @unroll(e, 0, 8) {
        var s$e = 0.0;
        var dp$e = 0.0;
      }
      @unroll(c, 0, SLICE) {
        var q$c = Chunk(0.0);
        var do$c = Chunk(0.0);
      }
      for (var slice = 0u; slice < $(CHUNKS)u; slice += $(SLICE)u) {
        @unroll(c, 0, SLICE) {
          q$c = q[mine + slice + $(c)u];
          do$c = d_o[mine + slice + $(c)u];
          @if (SLICES > 1) {
            k$c = k[base + slice + $(c)u] * params.scale;
            v$c = v[base + slice + $(c)u];
          }
          @if (CHUNKS % SLICE > 0) {
            if (slice + $(c)u >= $(CHUNKS)u) {
              q$c = Chunk(0.0);
              do$c = Chunk(0.0);
              k$c = Chunk(0.0);
              v$c = Chunk(0.0);
            }
          }
          @unroll(e, 0, 8) {
            s$e = plus_inner(s$e, k$c, subgroupShuffle(q$c, $(e)u));
            dp$e = plus_inner(dp$e, v$c, subgroupShuffle(do$c, $(e)u));
          }
        }
      }
      let mine_lse = lse[row];
      let mine_delta = delta[row];
      @unroll(e, 0, 8) {
        let span$e = subgroupShuffle(mine_span, $(e)u);
        let seen$e = query + $(e)u < end &&
          ((token >= span$e.x && token < span$e.y) || (token >= span$e.z && token <= query + $(e)u));
        @if (SOFTCAP == 1) { s$e = soft_cap(s$e, params.softcap); }
        let p$e = select(0.0, exp(s$e - subgroupShuffle(mine_lse, $(e)u)), seen$e);
        var ds$e = p$e * (dp$e - subgroupShuffle(mine_delta, $(e)u));
        @if (SOFTCAP == 1) { ds$e *= soft_cap_slope(s$e, params.softcap); }
      }
      @unroll(c, 0, SLICE) {
        @if (SLICES == 1) {
          let qp$c = q$c;
          let dop$c = do$c;
        } @else {
          let qp$c = q[mine + part + $(c)u];
          let dop$c = d_o[mine + part + $(c)u];
        }
        @unroll(e, 0, 8) {
          dk$c = fma(Chunk(ds$e), subgroupShuffle(qp$c, $(e)u), dk$c);
          dv$c = fma(Chunk(p$e), subgroupShuffle(dop$c, $(e)u), dv$c);
        }
      }
    }
  }

  for (var store = 0u; store < $((SLICE + 3) / 4)u; store++) {
    @unroll(i, 0, 4) {
      var dk_$i = Chunk(0.0);
      var dv_$i = Chunk(0.0);
    }
    @unroll(c, 0, SLICE) {
      dk_$(c % 4) = select(dk_$(c % 4), dk$c, store == $(c / 4)u);
      dv_$(c % 4) = select(dv_$(c % 4), dv$c, store == $(c / 4)u);
    }
    let column = part + store * 4u;
    let columns = min(part + $(SLICE)u, $(CHUNKS)u);
    @unroll(i, 0, 4) {
      if (first + lane < end && column + $(i)u < columns) {
        dk_$i *= params.scale;
        if (params.member > 0u) {
          dk_$i += d_k[base + column + $(i)u];
          dv_$i += d_v[base + column + $(i)u];
        }
        d_k[base + column + $(i)u] = dk_$i;
        d_v[base + column + $(i)u] = dv_$i;
      }
    }
  }
}
