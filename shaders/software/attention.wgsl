// Grouped-query causal attention over a packed stream, online softmax:
//   s[i, j] = scale * dot(q[i, h], k[j, h / group]),  o[i, h] = sum_j exp(s[i, j] - lse[i, h]) * v[j, h / group]
// and s becomes softcap * tanh(s / softcap) first where SOFTCAP is 1. Token i sees what attention_spans.wgsl says of
// [prefix_start, prefix_end) and [segment_start, i].
// Preludes: chunks.wgsl, attention_lanes.wgsl, attention_spans.wgsl, soft_cap.wgsl.
//
// For the software driver, whose loads cost most: a workgroup computes 8 QUERIES consecutive queries of HEADS heads of one
// group, lane l queries l, 8 + l, ... Each turn the lanes load the rows of TURN keys once, PIECE of a row's CHUNKS a lane,
// and pass them around. A turn is as straight as the processor's instruction cache has room for.
// Dispatch: blocks * heads / HEADS workgroups, folded; blocks = ceil(tokens / (8 QUERIES)). Neighbouring workgroups compute
// blocks that lie `stride` apart, which has no divisor in common with `blocks`.

struct Params { tokens: u32, blocks: u32, stride: u32, keys: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> q: array<Chunk>; // [tokens, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<Chunk>; // [keys, kv_heads, head_dim]
@group(0) @binding(3) var<storage, read> v: array<Chunk>; // [keys, kv_heads, head_dim]
@group(0) @binding(4) var<storage, read> spans: array<vec4<u32>>; // [tokens] prefix_start, prefix_end, segment_start, queries_end
@group(0) @binding(5) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(6) var<storage, read_write> o: array<Chunk>; // [tokens, heads, head_dim]
@group(0) @binding(7) var<storage, read_write> lse: array<f32>; // [tokens, heads]
@if (PLACED == 1) {
  @group(0) @binding(8) var<storage, read> places: array<u32>; // [tokens]
}

const LOWEST = -1e30;

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
    let own$i = place_of(token$i);
    @unroll(h, 0, HEADS) {
      @unroll(c, 0, CHUNKS) { var q$i_$h_$c = Chunk(0.0); }
    }
  }
  // Few loads in a loop instead of one a chunk, since each takes milliseconds to compile.
  for (var load = 0u; load < $(CHUNKS)u; load += 2u) {
    @unroll(i, 0, QUERIES) {
      @unroll(h, 0, HEADS) {
        @unroll(e, 0, 2) { let q_$i_$h_$e = q[base$i + $(h * CHUNKS)u + load + $(e)u] * params.scale; }
        @unroll(c, 0, CHUNKS) { q$i_$h_$c = select(q$i_$h_$c, q_$i_$h_$(c % 2), load == $(c / 2 * 2)u); }
      }
    }
  }
  @unroll(i, 0, QUERIES) {
    @unroll(h, 0, HEADS) {
      var largest$i_$h = LOWEST;
      var total$i_$h = 0.0;
      @unroll(c, 0, CHUNKS) { var o$i_$h_$c = Chunk(0.0); }
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
  let last = place_of(min(first + $(8 * QUERIES)u, end) - 1u);
  loop {
    loop {
      if (key >= prefix_end) {
        key = max(key, segment_start);
      }
      // Lanes of several segments leave gaps.
      var stop = key > last;
      @unroll(i, 0, QUERIES) {
        stop = stop || sees_any(own$i, span$i, key, $(TURN)u);
      }
      if (subgroupAny(stop)) {
        break;
      }
      key += $(TURN)u;
    }
    if (key > last) {
      break;
    }
    let mine = min(key + lane % $(TURN)u, params.keys - 1u) * kv_row + kv_piece;
    @unroll(i, 0, QUERIES) {
      @unroll(e, 0, TURN) {
        let seen$i_$e = sees(own$i, span$i, key + $(e)u);
      }
      @unroll(h, 0, HEADS) {
        @unroll(e, 0, TURN) { var s$i_$h_$e = 0.0; }
      }
    }
    @unroll(c, 0, PIECE) { let k$c = k[mine + $(c)u]; }
    @unroll(p, 0, 8 / TURN) {
      @unroll(c, 0, PIECE) {
        @if (p * PIECE + c < CHUNKS) {
          @unroll(e, 0, TURN) {
            let k$c_$p_$e = subgroupShuffle(k$c, $(TURN * p + e)u);
            @unroll(i, 0, QUERIES) {
              @unroll(h, 0, HEADS) { s$i_$h_$e = plus_inner(s$i_$h_$e, q$i_$h_$(p * PIECE + c), k$c_$p_$e); }
            }
          }
        }
      }
    }
    @unroll(i, 0, QUERIES) {
      @unroll(h, 0, HEADS) {
        @if (SOFTCAP == 1) {
          @unroll(e, 0, TURN) { s$i_$h_$e = soft_cap(s$i_$h_$e, params.softcap); }
        }
        var highest$i_$h = largest$i_$h;
        @unroll(e, 0, TURN) { highest$i_$h = max(highest$i_$h, select(LOWEST, s$i_$h_$e, seen$i_$e)); }
        let shrink$i_$h = exp(largest$i_$h - highest$i_$h);
        largest$i_$h = highest$i_$h;
        total$i_$h *= shrink$i_$h;
        @unroll(e, 0, TURN) {
          let p$i_$h_$e = select(0.0, exp(s$i_$h_$e - highest$i_$h), seen$i_$e);
          total$i_$h += p$i_$h_$e;
        }
      }
    }
    @unroll(c, 0, PIECE) { let v$c = v[mine + $(c)u]; }
    @unroll(p, 0, 8 / TURN) {
      @unroll(c, 0, PIECE) {
        @if (p * PIECE + c < CHUNKS) {
          @unroll(i, 0, QUERIES) {
            @unroll(h, 0, HEADS) { o$i_$h_$(p * PIECE + c) *= shrink$i_$h; }
          }
          @unroll(e, 0, TURN) {
            let v$c_$p_$e = subgroupShuffle(v$c, $(TURN * p + e)u);
            @unroll(i, 0, QUERIES) {
              @unroll(h, 0, HEADS) {
                o$i_$h_$(p * PIECE + c) = fma(Chunk(p$i_$h_$e), v$c_$p_$e, o$i_$h_$(p * PIECE + c));
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
        @unroll(e, 0, 2) { var o_$e = Chunk(0.0); }
        @unroll(c, 0, CHUNKS) { o_$(c % 2) = select(o_$(c % 2), o$i_$h_$c, store == $(c / 2 * 2)u); }
        @unroll(e, 0, 2) {
          if (first + $(8 * i)u + lane < end && store + $(e)u < $(CHUNKS)u) {
            o[base$i + $(h * CHUNKS)u + store + $(e)u] = o_$e / total$i_$h;
          }
        }
      }
      if (first + $(8 * i)u + lane < end) {
        // One Newton step, since the software driver's log is an approximation.
        let estimate = log(total$i_$h);
        lse[row$i + $(h)u] = largest$i_$h + estimate + (total$i_$h * exp(-estimate) - 1.0);
      }
    }
  }
}
