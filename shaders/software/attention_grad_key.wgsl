// Gradient of attention (attention.wgsl) with respect to keys and values:
//   p[i, j] = exp(scale * dot(q[i], k[j]) - lse[i]),  ds[i, j] = p[i, j] * (dot(d_o[i], v[j]) - delta[i])
//   d_k[j] = scale * sum_i ds[i, j] * q[i],  d_v[j] = sum_i p[i, j] * d_o[i]
// summed over the query heads of the key's group, one head (`member`) a dispatch; all but the first add to what is there.
// (One dispatch for all would multiply the loop iterations, of which the software driver counts to 65,535.)
// Where SOFTCAP is 1 scores are capped as there, and ds has the cap's derivative as a factor.
// Preludes: chunks.wgsl, attention_lanes.wgsl, attention_spans.wgsl, soft_cap.wgsl.
//
// For the software driver, whose loads cost most: a workgroup computes 8 KEYS consecutive keys of one key/value head, lane l
// keys l, 8 + l, ... Each turn the lanes load the rows of TURN queries once, PIECE of a row's CHUNKS a lane, and pass them
// around. A turn is as straight as the processor's instruction cache has room for.
// Dispatch: blocks * kv_heads workgroups, folded; blocks = ceil(tokens / (8 KEYS)). Neighbouring workgroups compute
// blocks that lie `stride` apart, which has no divisor in common with `blocks`.

struct Params { tokens: u32, blocks: u32, stride: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32, member: u32 }

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
  let kv_head = index % kv_heads;
  let head = kv_head * (heads / kv_heads) + params.member;
  let block = index / kv_heads;
  if (block >= params.blocks) {
    return;
  }
  let first = block * params.stride % params.blocks * $(8 * KEYS)u;
  let end = params.tokens;
  let lane = local.x;
  let piece = lane / $(TURN)u * $(PIECE)u;
  @unroll(i, 0, KEYS) {
    let token$i = min(first + $(8 * i)u + lane, end - 1u); // spare lanes repeat the last token: shuffles need them
    let base$i = (token$i * kv_heads + kv_head) * $(CHUNKS)u;
    @unroll(c, 0, CHUNKS) {
      var k$i_$c = Chunk(0.0);
      var v$i_$c = Chunk(0.0);
      var dk$i_$c = Chunk(0.0);
      var dv$i_$c = Chunk(0.0);
    }
  }
  // Few loads in a loop instead of one a chunk, since each takes milliseconds to compile.
  for (var load = 0u; load < $(CHUNKS)u; load += 2u) {
    @unroll(i, 0, KEYS) {
      @unroll(e, 0, 2) {
        let k_$i_$e = k[base$i + load + $(e)u] * params.scale;
        let v_$i_$e = v[base$i + load + $(e)u];
      }
      @unroll(c, 0, CHUNKS) {
        k$i_$c = select(k$i_$c, k_$i_$(c % 2), load == $(c / 2 * 2)u);
        v$i_$c = select(v$i_$c, v_$i_$(c % 2), load == $(c / 2 * 2)u);
      }
    }
  }

  let last = min(first + $(8 * KEYS)u, end) - 1u;
  var queries_end = 0u;
  @unroll(i, 0, KEYS) { queries_end = max(queries_end, spans[token$i].w); }
  queries_end = subgroupMax(queries_end);
  for (var block = first; block < queries_end; block += 8u) {
    let mine_token = min(block + lane, end - 1u);
    let mine_span = span_of(mine_token);
    // Keys of several segments leave gaps.
    if (subgroupAny(sees_any(block + lane, mine_span, first, last + 1u - first))) {
      let mine_lse = lse[mine_token * heads + head];
      let mine_delta = delta[mine_token * heads + head];
      for (var turn = 0u; turn < 8u; turn += $(TURN)u) {
        let mine = (min(block + turn + lane % $(TURN)u, end - 1u) * heads + head) * $(CHUNKS)u + piece;
        @unroll(i, 0, KEYS) {
          @unroll(e, 0, TURN) {
            var s$i_$e = 0.0;
            var dp$i_$e = 0.0;
          }
        }
        @unroll(c, 0, PIECE) {
          let q$c = q[mine + $(c)u];
          let do$c = d_o[mine + $(c)u];
        }
        @unroll(p, 0, 8 / TURN) {
          @unroll(c, 0, PIECE) {
            @if (p * PIECE + c < CHUNKS) {
              @unroll(e, 0, TURN) {
                let q$c_$p_$e = subgroupShuffle(q$c, $(TURN * p + e)u);
                let do$c_$p_$e = subgroupShuffle(do$c, $(TURN * p + e)u);
                @unroll(i, 0, KEYS) {
                  s$i_$e = plus_inner(s$i_$e, k$i_$(p * PIECE + c), q$c_$p_$e);
                  dp$i_$e = plus_inner(dp$i_$e, v$i_$(p * PIECE + c), do$c_$p_$e);
                }
              }
            }
          }
        }
        @unroll(e, 0, TURN) {
          let query$e = block + turn + $(e)u;
          let span$e = subgroupShuffle(mine_span, turn + $(e)u);
          let lse$e = subgroupShuffle(mine_lse, turn + $(e)u);
          let delta$e = subgroupShuffle(mine_delta, turn + $(e)u);
          @unroll(i, 0, KEYS) {
            let seen$i_$e = query$e < end && sees(query$e, span$e, token$i);
            @if (SOFTCAP == 1) { s$i_$e = soft_cap(s$i_$e, params.softcap); }
            let p$i_$e = select(0.0, exp(s$i_$e - lse$e), seen$i_$e);
            var ds$i_$e = p$i_$e * (dp$i_$e - delta$e);
            @if (SOFTCAP == 1) { ds$i_$e *= soft_cap_slope(s$i_$e, params.softcap); }
          }
        }
        @unroll(p, 0, 8 / TURN) {
          @unroll(c, 0, PIECE) {
            @if (p * PIECE + c < CHUNKS) {
              @unroll(i, 0, KEYS) {
                @unroll(e, 0, TURN) {
                  dk$i_$(p * PIECE + c) = fma(Chunk(ds$i_$e), q$c_$p_$e, dk$i_$(p * PIECE + c));
                  dv$i_$(p * PIECE + c) = fma(Chunk(p$i_$e), do$c_$p_$e, dv$i_$(p * PIECE + c));
                }
              }
            }
          }
        }
      }
    }
  }

  @unroll(i, 0, KEYS) {
    for (var store = 0u; store < $(CHUNKS)u; store += 2u) {
      @unroll(e, 0, 2) {
        var dk_$e = Chunk(0.0);
        var dv_$e = Chunk(0.0);
      }
      @unroll(c, 0, CHUNKS) {
        dk_$(c % 2) = select(dk_$(c % 2), dk$i_$c, store == $(c / 2 * 2)u);
        dv_$(c % 2) = select(dv_$(c % 2), dv$i_$c, store == $(c / 2 * 2)u);
      }
      @unroll(e, 0, 2) {
        if (first + $(8 * i)u + lane < end && store + $(e)u < $(CHUNKS)u) {
          dk_$e *= params.scale;
          if (params.member > 0u) {
            dk_$e += d_k[base$i + store + $(e)u];
            dv_$e += d_v[base$i + store + $(e)u];
          }
          d_k[base$i + store + $(e)u] = dk_$e;
          d_v[base$i + store + $(e)u] = dv_$e;
        }
      }
    }
  }
}
