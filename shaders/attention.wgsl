// Grouped-query causal attention over a packed stream, online softmax:
//   s[i, j] = scale * dot(q[i, h], k[j, h / group]),  o[i, h] = sum_j exp(s[i, j] - lse[i, h]) * v[j, h / group]
// and s becomes softcap * tanh(s / softcap) first where SOFTCAP is 1. Token i sees what attention_spans.wgsl says of
// [prefix_start, prefix_end) and [segment_start, i].
// Preludes: chunks.wgsl, attention_lanes.wgsl, attention_spans.wgsl, soft_cap.wgsl.
//
// For the software driver, whose loads cost most, in time and in compilation: a workgroup computes 8
// consecutive queries of HEADS heads of one group, lane l query l; lane l loads key block + l, and the lanes pass keys and
// values around.
// A row of one head is read as CHUNKS chunks; dots walk SLICE of them at a time and an invocation computes SLICE chunks of
// its row, so that the straight-line code stays small. With SLICES 1 chunks are loaded once.
// Dispatch: ceil(tokens / 8) * heads / HEADS * SLICES workgroups, folded.

struct Params { tokens: u32, keys: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32 }

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
  let part = index % $(SLICES)u * $(SLICE)u;
  let head = index / $(SLICES)u % (heads / $(HEADS)u) * $(HEADS)u;
  let first = index / $(SLICES)u / (heads / $(HEADS)u) * 8u;
  let end = params.tokens;
  if (first >= end) {
    return;
  }
  let lane = local.x;
  let token = min(first + lane, end - 1u); // spare lanes repeat the last token: shuffles need them
  let row = token * heads + head;
  let base = row * $(CHUNKS)u;
  let kv_row = params.kv_heads * $(CHUNKS)u;
  let kv_base = head / (heads / params.kv_heads) * $(CHUNKS)u;
  let span = span_of(token);
  let own = place_of(token);
  @unroll(h, 0, HEADS) {
    @unroll(c, 0, SLICE) { var q$h_$c = Chunk(0.0); }
  }
  @if (SLICES == 1) {
    // Few loads in a loop instead of one a chunk, since each takes milliseconds to compile.
    for (var load = 0u; load < $((SLICE + 3) / 4)u; load++) {
      @unroll(h, 0, HEADS) {
        @unroll(i, 0, 4) { let q_$h_$i = q[base + $(h * CHUNKS)u + load * 4u + $(i)u] * params.scale; }
        @unroll(c, 0, SLICE) { q$h_$c = select(q$h_$c, q_$h_$(c % 4), load == $(c / 4)u); }
      }
    }
  }
  @unroll(h, 0, HEADS) {
    var largest$h = LOWEST;
    var total$h = 0.0;
    @unroll(c, 0, SLICE) { var o$h_$c = Chunk(0.0); }
  }

  // The keys that any lane sees lie in [key, prefix_end) and [segment_start, last].
  var key = subgroupMin(span.x);
  let prefix_end = subgroupMax(span.y);
  let segment_start = subgroupMin(span.z);
  let last = place_of(min(first + 8u, end) - 1u);
  loop {
    if (key >= prefix_end) {
      key = max(key, segment_start);
    }
    if (key > last) {
      break;
    }
    // Lanes of several segments leave gaps.
    if (subgroupAny((key + 8u > span.x && key < span.y) || (key + 8u > span.z && key <= own))) {
      let mine = min(key + lane, params.keys - 1u) * kv_row + kv_base;
      @unroll(e, 0, 8) {
        let seen$e = (key + $(e)u >= span.x && key + $(e)u < span.y) || (key + $(e)u >= span.z && key + $(e)u <= own);
      }
      @unroll(h, 0, HEADS) {
        @unroll(e, 0, 8) { var s$h_$e = 0.0; }
      }
      for (var slice = 0u; slice < $(CHUNKS)u; slice += $(SLICE)u) {
        @unroll(c, 0, SLICE) {
          var k$c = k[mine + slice + $(c)u];
          @if (SLICES > 1) {
            @unroll(h, 0, HEADS) { q$h_$c = q[base + $(h * CHUNKS)u + slice + $(c)u] * params.scale; }
          }
          @if (CHUNKS % SLICE > 0) {
            if (slice + $(c)u >= $(CHUNKS)u) {
              k$c = Chunk(0.0);
              @unroll(h, 0, HEADS) { q$h_$c = Chunk(0.0); }
            }
          }
          @unroll(e, 0, 8) {
            let k$c_$e = subgroupShuffle(k$c, $(e)u);
            @unroll(h, 0, HEADS) { s$h_$e = plus_inner(s$h_$e, q$h_$c, k$c_$e); }
          }
        }
      }
      @unroll(h, 0, HEADS) {
        @if (SOFTCAP == 1) {
          @unroll(e, 0, 8) { s$h_$e = soft_cap(s$h_$e, params.softcap); }
        }
        var highest$h = largest$h;
        @unroll(e, 0, 8) { highest$h = max(highest$h, select(LOWEST, s$h_$e, seen$e)); }
        let shrink$h = exp(largest$h - highest$h);
        largest$h = highest$h;
        total$h *= shrink$h;
        @unroll(e, 0, 8) {
          let p$h_$e = select(0.0, exp(s$h_$e - highest$h), seen$e);
          total$h += p$h_$e;
        }
      }
      @unroll(c, 0, SLICE) {
        let v$c = v[mine + part + $(c)u];
        @unroll(h, 0, HEADS) { o$h_$c *= shrink$h; }
        @unroll(e, 0, 8) {
          let v$c_$e = subgroupShuffle(v$c, $(e)u);
          @unroll(h, 0, HEADS) { o$h_$c = fma(Chunk(p$h_$e), v$c_$e, o$h_$c); }
        }
      }
    }
    key += 8u;
  }

  @unroll(h, 0, HEADS) {
    for (var store = 0u; store < $((SLICE + 3) / 4)u; store++) {
      @unroll(i, 0, 4) { var o_$i = Chunk(0.0); }
      @unroll(c, 0, SLICE) { o_$(c % 4) = select(o_$(c % 4), o$h_$c, store == $(c / 4)u); }
      let column = part + store * 4u;
      let columns = min(part + $(SLICE)u, $(CHUNKS)u);
      @unroll(i, 0, 4) {
        if (first + lane < end && column + $(i)u < columns) {
          o[base + $(h * CHUNKS)u + column + $(i)u] = o_$i / total$h;
        }
      }
    }
    if (part == 0u && first + lane < end) {
      // One Newton step, since the software driver's log is an approximation.
      let estimate = log(total$h);
      lse[row + $(h)u] = largest$h + estimate + (total$h * exp(-estimate) - 1.0);
    }
  }
}
