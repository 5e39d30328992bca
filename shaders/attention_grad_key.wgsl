// Gradient of attention (attention.wgsl) with respect to keys and values:
//   p[i, j] = exp(scale * dot(q[i], k[j]) - lse[i]),  ds[i, j] = p[i, j] * (dot(d_o[i], v[j]) - delta[i])
//   d_k[j] = scale * sum_i ds[i, j] * q[i],  d_v[j] = sum_i p[i, j] * d_o[i]
// summed over the query heads of the key's group, one head (`member`) a dispatch; all but the first add to what is there.
// For the software driver: a workgroup computes 8 consecutive keys of one key/value head, an invocation one key, or the
// part of its gradients that has at most PART chunks; lane l loads query block + l and the lanes pass queries around.
// Dispatch: ceil(tokens / 8) * kv_heads * PARTS workgroups, folded.

struct Params { tokens: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, member: u32 }

// A row of one head is read as CHUNKS chunks.
@if (WIDTH == 4) { alias Chunk = vec4<f32>; } @else { alias Chunk = f32; }

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

@if (WIDTH == 4) { fn inner(a: Chunk, b: Chunk) -> f32 { return dot(a, b); } } @else { fn inner(a: Chunk, b: Chunk) -> f32 { return a * b; } }

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.y * groups.x + group.x;
  let heads = params.heads;
  let kv_heads = params.kv_heads;
  let part = index % $(PARTS)u * $(PART)u;
  let kv_head = index / $(PARTS)u % kv_heads;
  let head = kv_head * (heads / kv_heads) + params.member;
  let first = index / $(PARTS)u / kv_heads * 8u;
  let end = params.tokens;
  if (first >= end) {
    return;
  }
  let lane = local.x;
  let token = min(first + lane, end - 1u); // spare lanes repeat the last token: all lanes must take part in shuffles
  let base = (token * kv_heads + kv_head) * $(CHUNKS)u;
  @unroll(c, 0, CHUNKS) {
    let k$c = k[base + $(c)u] * params.scale;
    let v$c = v[base + $(c)u];
  }
  @unroll(c, 0, PART) {
    var dk$c = Chunk(0.0);
    var dv$c = Chunk(0.0);
  }
  @if (WINDOWED == 1) { let position = positions[token]; }

  let queries_end = subgroupMax(spans[token].w);
  for (var query = first; query < queries_end; query += 8u) {
    let query_span = spans[min(query + lane, end - 1u)];
    // Lanes of several segments leave gaps.
    if (subgroupAny((first + 8u > query_span.x && first < query_span.y) || (first + 8u > query_span.z && first <= query + lane))) {
      let row = min(query + lane, end - 1u) * heads + head;
      let mine = row * $(CHUNKS)u;
      let query_lse = lse[row];
      let query_delta = delta[row];
      @if (WINDOWED == 1) { let query_position = positions[min(query + lane, end - 1u)]; }
      @unroll(e, 0, 8) {
        var s$e = 0.0;
        var dp$e = 0.0;
      }
      @unroll(c, 0, CHUNKS) {
        let q$c = q[mine + $(c)u];
        let do$c = d_o[mine + $(c)u];
        @unroll(e, 0, 8) {
          s$e += inner(k$c, subgroupShuffle(q$c, $(e)u));
          dp$e += inner(v$c, subgroupShuffle(do$c, $(e)u));
        }
      }
      @unroll(e, 0, 8) {
        let span$e = subgroupShuffle(query_span, $(e)u);
        let query$e = query + $(e)u;
        var seen$e = query$e < end && ((token >= span$e.x && token < span$e.y) || (token >= span$e.z && token <= query$e));
        @if (WINDOWED == 1) {
          seen$e = seen$e && subgroupShuffle(query_position, $(e)u) - position < params.window;
        }
        let p$e = select(0.0, exp(s$e - subgroupShuffle(query_lse, $(e)u)), seen$e);
        let ds$e = p$e * (dp$e - subgroupShuffle(query_delta, $(e)u));
      }
      @unroll(c, 0, PART) {
        let qp$c = q[mine + part + $(c)u];
        let dop$c = d_o[mine + part + $(c)u];
        @unroll(e, 0, 8) {
          dk$c = fma(Chunk(ds$e), subgroupShuffle(qp$c, $(e)u), dk$c);
          dv$c = fma(Chunk(p$e), subgroupShuffle(dop$c, $(e)u), dv$c);
        }
      }
    }
  }
  if (first + lane >= end) {
    return;
  }
  @unroll(c, 0, PART) {
    if (part + $(c)u < $(CHUNKS)u) {
      dk$c *= params.scale;
      if (params.member > 0u) {
        dk$c += d_k[base + part + $(c)u];
        dv$c += d_v[base + part + $(c)u];
      }
      d_k[base + part + $(c)u] = dk$c;
      d_v[base + part + $(c)u] = dv$c;
    }
  }
}
