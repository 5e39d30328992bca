// Gradient of attention (attention.wgsl) with respect to the queries:
//   p[i, j] = exp(scale * dot(q[i], k[j]) - lse[i]),  ds[i, j] = p[i, j] * (dot(d_o[i], v[j]) - delta[i])
//   d_q[i] = scale * sum_j ds[i, j] * k[j]
// Where SOFTCAP is 1 scores are capped as there, and ds has the cap's derivative as a factor.
// Preludes: chunks.wgsl, attention_lanes.wgsl, attention_spans.wgsl, soft_cap.wgsl.
//
// For the software driver, whose loads cost most: a workgroup computes 8 QUERIES consecutive queries of HEADS heads of one
// group, lane l queries l, 8 + l, ... Each turn the lanes load the rows of TURN keys once, PIECE of a row's CHUNKS a lane,
// and pass them around. A turn is as straight as the processor's instruction cache has room for.
// Dispatch: blocks * heads / HEADS workgroups, folded; blocks = ceil(tokens / (8 QUERIES)). Neighbouring workgroups compute
// blocks that lie `stride` apart, which has no divisor in common with `blocks`.

struct Params { tokens: u32, blocks: u32, stride: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> q: array<Chunk>; // [tokens, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<Chunk>; // [tokens, kv_heads, head_dim]
@group(0) @binding(3) var<storage, read> v: array<Chunk>; // [tokens, kv_heads, head_dim]
@group(0) @binding(4) var<storage, read> d_o: array<Chunk>; // [tokens, heads, head_dim]
@group(0) @binding(5) var<storage, read> lse: array<f32>; // [tokens, heads]
@group(0) @binding(6) var<storage, read> delta: array<f32>; // [tokens, heads]
@group(0) @binding(7) var<storage, read> spans: array<vec4<u32>>; // [tokens] prefix_start, prefix_end, segment_start, queries_end
@group(0) @binding(8) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(9) var<storage, read_write> d_q: array<Chunk>; // [tokens, heads, head_dim]

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.y * groups.x + group.x;
  let heads = params.heads;
  let head = index % (heads / $(HEADS)u) * $(HEADS)u;
  let block = index / (heads / $(HEADS)u);
  if (block >= params.blocks) {
    return;
  }
  let first = block * params.stride % params.blocks * $(8 * QUERIES)u;
  let end = params.tokens;
  let lane = local.x;
  let kv_row = params.kv_heads * $(CHUNKS)u;
  let kv_piece = head / (heads / params.kv_heads) * $(CHUNKS)u + lane / $(TURN)u * $(PIECE)u;
  @unroll(i, 0, QUERIES) {
    let token$i = min(first + $(8 * i)u + lane, end - 1u); // spare lanes repeat the last token: shuffles need them
    let row$i = token$i * heads + head;
    let base$i = row$i * $(CHUNKS)u;
    let span$i = span_of(token$i);
    @unroll(h, 0, HEADS) {
      let lse$i_$h = lse[row$i + $(h)u];
      let delta$i_$h = delta[row$i + $(h)u];
      @unroll(c, 0, CHUNKS) {
        var q$i_$h_$c = Chunk(0.0);
        var do$i_$h_$c = Chunk(0.0);
        var dq$i_$h_$c = Chunk(0.0);
      }
    }
  }
  // Few loads in a loop instead of one a chunk, since each takes milliseconds to compile.
  for (var load = 0u; load < $(CHUNKS)u; load += 2u) {
    @unroll(i, 0, QUERIES) {
      @unroll(h, 0, HEADS) {
        @unroll(e, 0, 2) {
          let q_$i_$h_$e = q[base$i + $(h * CHUNKS)u + load + $(e)u] * params.scale;
          let do_$i_$h_$e = d_o[base$i + $(h * CHUNKS)u + load + $(e)u];
        }
        @unroll(c, 0, CHUNKS) {
          q$i_$h_$c = select(q$i_$h_$c, q_$i_$h_$(c % 2), load == $(c / 2 * 2)u);
          do$i_$h_$c = select(do$i_$h_$c, do_$i_$h_$(c % 2), load == $(c / 2 * 2)u);
        }
      }
    }
  }

  // The keys that any lane sees lie in [key, prefix_end) and [segment_start, last].
  var lowest = span0;
  var prefix_end = span0.y;
  @unroll(i, 1, QUERIES) {
    lowest = min(lowest, span$i);
    prefix_end = max(prefix_end, span$i.y);
  }
  var key = subgroupMin(lowest.x);
  prefix_end = subgroupMax(prefix_end);
  let segment_start = subgroupMin(lowest.z);
  let last = min(first + $(8 * QUERIES)u, end) - 1u;
  loop {
    loop {
      if (key >= prefix_end) {
        key = max(key, segment_start);
      }
      // Lanes of several segments leave gaps.
      var stop = key > last;
      @unroll(i, 0, QUERIES) {
        stop = stop || sees_any(token$i, span$i, key, $(TURN)u);
      }
      if (subgroupAny(stop)) {
        break;
      }
      key += $(TURN)u;
    }
    if (key > last) {
      break;
    }
    let mine = min(key + lane % $(TURN)u, end - 1u) * kv_row + kv_piece;
    @unroll(i, 0, QUERIES) {
      @unroll(e, 0, TURN) {
        let seen$i_$e = sees(token$i, span$i, key + $(e)u);
      }
      @unroll(h, 0, HEADS) {
        @unroll(e, 0, TURN) {
          var s$i_$h_$e = 0.0;
          var dp$i_$h_$e = 0.0;
        }
      }
    }
    @unroll(c, 0, PIECE) {
      let k$c = k[mine + $(c)u];
      let v$c = v[mine + $(c)u];
    }
    @unroll(p, 0, 8 / TURN) {
      @unroll(c, 0, PIECE) {
        @if (p * PIECE + c < CHUNKS) {
          @unroll(e, 0, TURN) {
            let k$c_$p_$e = subgroupShuffle(k$c, $(TURN * p + e)u);
            let v$c_$p_$e = subgroupShuffle(v$c, $(TURN * p + e)u);
            @unroll(i, 0, QUERIES) {
              @unroll(h, 0, HEADS) {
                s$i_$h_$e = plus_inner(s$i_$h_$e, q$i_$h_$(p * PIECE + c), k$c_$p_$e);
                dp$i_$h_$e = plus_inner(dp$i_$h_$e, do$i_$h_$(p * PIECE + c), v$c_$p_$e);
              }
            }
          }
        }
      }
    }
    @unroll(i, 0, QUERIES) {
      @unroll(h, 0, HEADS) {
        @unroll(e, 0, TURN) {
          @if (SOFTCAP == 1) { s$i_$h_$e = soft_cap(s$i_$h_$e, params.softcap); }
          var ds$i_$h_$e = select(0.0, exp(s$i_$h_$e - lse$i_$h), seen$i_$e) * (dp$i_$h_$e - delta$i_$h);
          @if (SOFTCAP == 1) { ds$i_$h_$e *= soft_cap_slope(s$i_$h_$e, params.softcap); }
        }
      }
    }
    @unroll(p, 0, 8 / TURN) {
      @unroll(c, 0, PIECE) {
        @if (p * PIECE + c < CHUNKS) {
          @unroll(i, 0, QUERIES) {
            @unroll(h, 0, HEADS) {
              @unroll(e, 0, TURN) {
                dq$i_$h_$(p * PIECE + c) = fma(Chunk(ds$i_$h_$e), k$c_$p_$e, dq$i_$h_$(p * PIECE + c));
              }
            }
          }
        }
      }
    }
    key += $(TURN)u;
  }

  @unroll(i, 0, QUERIES) {
    @unroll(h, 0, HEADS) {
      for (var store = 0u; store < $(CHUNKS)u; store += 2u) {
        @unroll(e, 0, 2) { var dq_$e = Chunk(0.0); }
        @unroll(c, 0, CHUNKS) { dq_$(c % 2) = select(dq_$(c % 2), dq$i_$h_$c, store == $(c / 2 * 2)u); }
        @unroll(e, 0, 2) {
          if (first + $(8 * i)u + lane < end && store + $(e)u < $(CHUNKS)u) {
            d_q[base$i + $(h * CHUNKS)u + store + $(e)u] = dq_$e * params.scale;
          }
        }
      }
    }
  }
}
