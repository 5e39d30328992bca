// Grouped-query causal attention over a packed stream, online softmax:
//   s[i, j] = scale * dot(q[i, h], k[j, h / group]),  o[i, h] = sum_j exp(s[i, j] - lse[i, h]) * v[j, h / group]
// Token i sees [prefix_start, prefix_end) and [segment_start, i], less what lies `window` positions or more behind.
// For the software driver: a workgroup computes 8 consecutive queries of one head, an invocation one query, or the part
// of its o that has at most PART chunks; lane l loads key block + l and the lanes pass keys and values around.
// Dispatch: ceil(tokens / 8) * heads * PARTS workgroups, folded.

struct Params { tokens: u32, heads: u32, kv_heads: u32, window: u32, scale: f32 }

// A row of one head is read as CHUNKS chunks.
@if (WIDTH == 4) { alias Chunk = vec4<f32>; } @else { alias Chunk = f32; }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> q: array<Chunk>; // [tokens, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<Chunk>; // [tokens, kv_heads, head_dim]
@group(0) @binding(3) var<storage, read> v: array<Chunk>; // [tokens, kv_heads, head_dim]
@group(0) @binding(4) var<storage, read> spans: array<vec4<u32>>; // [tokens] prefix_start, prefix_end, segment_start, queries_end
@group(0) @binding(5) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(6) var<storage, read_write> o: array<Chunk>; // [tokens, heads, head_dim]
@group(0) @binding(7) var<storage, read_write> lse: array<f32>; // [tokens, heads]

const LOWEST = -1e30;

@if (WIDTH == 4) { fn inner(a: Chunk, b: Chunk) -> f32 { return dot(a, b); } } @else { fn inner(a: Chunk, b: Chunk) -> f32 { return a * b; } }

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.y * groups.x + group.x;
  let heads = params.heads;
  let kv_heads = params.kv_heads;
  let part = index % $(PARTS)u * $(PART)u;
  let head = index / $(PARTS)u % heads;
  let first = index / $(PARTS)u / heads * 8u;
  let end = params.tokens;
  if (first >= end) {
    return;
  }
  let lane = local.x;
  let token = min(first + lane, end - 1u); // spare lanes repeat the last token: all lanes must take part in shuffles
  let kv_base = head / (heads / kv_heads) * $(CHUNKS)u;
  let kv_row = kv_heads * $(CHUNKS)u;
  let q_base = (token * heads + head) * $(CHUNKS)u;
  @unroll(c, 0, CHUNKS) { let q$c = q[q_base + $(c)u] * params.scale; }
  @unroll(c, 0, PART) { var o$c = Chunk(0.0); }
  var largest = LOWEST;
  var total = 0.0;

  let span = spans[token];
  @if (WINDOWED == 1) { let position = positions[token]; }
  // The keys that any lane sees lie in [key, prefix_end) and [segment_start, last].
  var key = subgroupMin(span.x);
  let prefix_end = subgroupMax(span.y);
  let segment_start = subgroupMin(span.z);
  let last = subgroupMax(token);
  loop {
    if (key >= prefix_end) {
      key = max(key, segment_start);
    }
    if (key > last) {
      break;
    }
    // Lanes of several segments leave gaps.
    if (subgroupAny((key + 8u > span.x && key < span.y) || (key + 8u > span.z && key <= token))) {
      let mine = min(key + lane, end - 1u) * kv_row + kv_base;
      @unroll(e, 0, 8) { var s$e = 0.0; }
      @unroll(c, 0, CHUNKS) {
        let k$c = k[mine + $(c)u];
        @unroll(e, 0, 8) { s$e += inner(q$c, subgroupShuffle(k$c, $(e)u)); }
      }
      @if (WINDOWED == 1) { let key_position = positions[min(key + lane, end - 1u)]; }
      var highest = largest;
      @unroll(e, 0, 8) {
        let key$e = key + $(e)u;
        var seen$e = (key$e >= span.x && key$e < span.y) || (key$e >= span.z && key$e <= token);
        @if (WINDOWED == 1) {
          seen$e = seen$e && position - subgroupShuffle(key_position, $(e)u) < params.window;
        }
        highest = max(highest, select(LOWEST, s$e, seen$e));
      }
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
  if (first + lane >= end) {
    return;
  }
  @unroll(c, 0, PART) {
    if (part + $(c)u < $(CHUNKS)u) {
      o[q_base + part + $(c)u] = o$c / total;
    }
  }
  if (part == 0u) {
    // One Newton step, since the software driver's log is good to 1e-5 only.
    let estimate = log(total);
    lse[token * heads + head] = largest + estimate + (total * exp(-estimate) - 1.0);
  }
}
