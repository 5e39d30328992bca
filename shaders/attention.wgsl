// Grouped-query causal attention over a packed stream, online softmax:
//   s[i, j] = scale * dot(q[i, h], k[j, h / group]),  o[i, h] = sum_j exp(s[i, j] - lse[i, h]) * v[j, h / group]
// and s becomes softcap * tanh(s / softcap) first where SOFTCAP is 1. Token i sees what attention_spans.wgsl says of
// [prefix_start, prefix_end) and [segment_start, i].
// Preludes: attention_spans.wgsl, soft_cap.wgsl.
//
// For the software driver, whose loads cost most, in time and in compilation: a workgroup computes 8
// consecutive queries of one head, lane l query l; lane l loads key block + l, and the lanes pass keys and values around.
// A row of one head is read as CHUNKS chunks; dots walk SLICE chunks at a time and an invocation computes PART chunks of
// its row, so that the straight-line code stays small. WHOLE: SLICE and PART are all CHUNKS, and chunks are loaded once.
// Dispatch: ceil(tokens / 8) * heads * PARTS workgroups, folded.

struct Params { tokens: u32, keys: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32 }

@if (WIDTH == 4) { alias Chunk = vec4<f32>; } @else { alias Chunk = f32; }

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

@if (WIDTH == 4) {
  fn plus_inner(sum: f32, a: Chunk, b: Chunk) -> f32 { return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum)))); }
} @else {
  fn plus_inner(sum: f32, a: Chunk, b: Chunk) -> f32 { return fma(a, b, sum); }
}

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.y * groups.x + group.x;
  let heads = params.heads;
  let part = index % $(PARTS)u * $(PART)u;
  let head = index / $(PARTS)u % heads;
  let first = index / $(PARTS)u / heads * 8u;
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
  @unroll(c, 0, SLICE) { var q$c = Chunk(0.0); }
  @if (SLICES == 1) {
    // Few loads in a loop instead of one a chunk, since each takes milliseconds to compile.
    for (var load = 0u; load < $((SLICE + 3) / 4)u; load++) {
      @unroll(i, 0, 4) { let q_$i = q[base + load * 4u + $(i)u] * params.scale; }
      @unroll(c, 0, SLICE) { q$c = select(q$c, q_$(c % 4), load == $(c / 4)u); }
    }
  }
  var largest = LOWEST;
  var total = 0.0;
  @unroll(c, 0, PART) { var o$c = Chunk(0.0); }

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
      @unroll(e, 0, 8) { var s$e = 0.0; }
      for (var slice = 0u; slice < $(CHUNKS)u; slice += $(SLICE)u) {
        @unroll(c, 0, SLICE) {
          var k$c = k[mine + slice + $(c)u];
          @if (SLICES > 1) { q$c = q[base + slice + $(c)u] * params.scale; }
          @if (CHUNKS % SLICE > 0) {
            if (slice + $(c)u >= $(CHUNKS)u) {
              k$c = Chunk(0.0);
              q$c = Chunk(0.0);
            }
          }
          @unroll(e, 0, 8) { s$e = plus_inner(s$e, q$c, subgroupShuffle(k$c, $(e)u)); }
        }
      }
      @if (SOFTCAP == 1) {
        @unroll(e, 0, 8) { s$e = soft_cap(s$e, params.softcap); }
      }
      var highest = largest;
      @unroll(e, 0, 8) { highest = max(highest, select(LOWEST, s$e, seen$e)); }
      let shrink = exp(largest - highest);
      largest = highest;
      total *= shrink;
      @unroll(e, 0, 8) {
        let p$e = select(0.0, exp(s$e - highest), seen$e);
        total += p$e;
      }
      @unroll(c, 0, PART) {
        let v$c = v[mine + part + $(c)u];
        o$c *= shrink;
        @unroll(e, 0, 8) { o$c = fma(Chunk(p$e), subgroupShuffle(v$c, $(e)u), o$c); }
      }
    }
    key += 8u;
  }

  for (var store = 0u; store < $((PART + 3) / 4)u; store++) {
    @unroll(i, 0, 4) { var o_$i = Chunk(0.0); }
    @unroll(c, 0, PART) { o_$(c % 4) = select(o_$(c % 4), o$c, store == $(c / 4)u); }
    let column = part + store * 4u;
    let columns = min(part + $(PART)u, $(CHUNKS)u);
    @unroll(i, 0, 4) {
      if (first + lane < end && column + $(i)u < columns) {
        o[base + column + $(i)u] = o_$i / total;
      }
    }
  }
  if (part == 0u && first + lane < end) {
    // One Newton step, since the software driver's log is an approximation.
    let estimate = log(total);
    lse[row] = largest + estimate + (total * exp(-estimate) - 1.0);
  }
}
