// Gradient of attention (attention.wgsl) with respect to the queries:
//   p[i, j] = exp(scale * dot(q[i], k[j]) - lse[i]),  ds[i, j] = p[i, j] * (dot(d_o[i], v[j]) - delta[i])
//   d_q[i] = scale * sum_j ds[i, j] * k[j]
// Where SOFTCAP is 1 scores are capped as there, and ds has the cap's derivative as a factor.
// Preludes: chunks.wgsl, attention_lanes.wgsl, attention_spans.wgsl, soft_cap.wgsl.
//
// For the software driver, whose loads cost most, in time and in compilation: a workgroup computes 8
// consecutive queries of one head, lane l query l; lane l loads key block + l, and the lanes pass keys and values around.
// A row of one head is read as CHUNKS chunks; dots walk SLICE of them at a time and an invocation computes SLICE chunks of
// its row, so that the straight-line code stays small. With SLICES 1 chunks are loaded once.
// Dispatch: ceil(tokens / 8) * heads * SLICES workgroups, folded.

struct Params { tokens: u32, heads: u32, kv_heads: u32, window: u32, scale: f32, softcap: f32 }

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
  let part = index % $(SLICES)u * $(SLICE)u;
  let head = index / $(SLICES)u % heads;
  let first = index / $(SLICES)u / heads * 8u;
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
  let row_lse = lse[row];
  let row_delta = delta[row];
  @unroll(c, 0, SLICE) {
    var q$c = Chunk(0.0);
    var do$c = Chunk(0.0);
  }
  @if (SLICES == 1) {
    // Few loads in a loop instead of one a chunk, since each takes milliseconds to compile.
    for (var load = 0u; load < $((SLICE + 3) / 4)u; load++) {
      @unroll(i, 0, 4) {
        let q_$i = q[base + load * 4u + $(i)u] * params.scale;
        let do_$i = d_o[base + load * 4u + $(i)u];
      }
      @unroll(c, 0, SLICE) {
        q$c = select(q$c, q_$(c % 4), load == $(c / 4)u);
        do$c = select(do$c, do_$(c % 4), load == $(c / 4)u);
      }
    }
  }
  @unroll(c, 0, SLICE) { var dq$c = Chunk(0.0); }

  // The keys that any lane sees lie in [key, prefix_end) and [segment_start, last].
  var key = subgroupMin(span.x);
  let prefix_end = subgroupMax(span.y);
  let segment_start = subgroupMin(span.z);
  let last = min(first + 8u, end) - 1u;
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
      @unroll(e, 0, 8) {
        let seen$e = (key + $(e)u >= span.x && key + $(e)u < span.y) || (key + $(e)u >= span.z && key + $(e)u <= token);
      }
      @unroll(e, 0, 8) {
        var s$e = 0.0;
        var dp$e = 0.0;
      }
      @unroll(c, 0, SLICE) { var k$c = Chunk(0.0); }
      for (var slice = 0u; slice < $(CHUNKS)u; slice += $(SLICE)u) {
        @unroll(c, 0, SLICE) {
          k$c = k[mine + slice + $(c)u];
          var v$c = v[mine + slice + $(c)u];
          @if (SLICES > 1) {
            q$c = q[base + slice + $(c)u] * params.scale;
            do$c = d_o[base + slice + $(c)u];
          }
          @if (CHUNKS % SLICE > 0) {
            if (slice + $(c)u >= $(CHUNKS)u) {
              k$c = Chunk(0.0);
              v$c = Chunk(0.0);
              q$c = Chunk(0.0);
              do$c = Chunk(0.0);
            }
          }
          @unroll(e, 0, 8) {
            s$e = plus_inner(s$e, q$c, subgroupShuffle(k$c, $(e)u));
            dp$e = plus_inner(dp$e, do$c, subgroupShuffle(v$c, $(e)u));
          }
        }
      }
      @unroll(e, 0, 8) {
        @if (SOFTCAP == 1) { s$e = soft_cap(s$e, params.softcap); }
        var ds$e = select(0.0, exp(s$e - row_lse), seen$e) * (dp$e - row_delta);
        @if (SOFTCAP == 1) { ds$e *= soft_cap_slope(s$e, params.softcap); }
      }
      @unroll(c, 0, SLICE) {
        @if (SLICES == 1) { let kp$c = k$c; } @else { let kp$c = k[mine + part + $(c)u]; }
        @unroll(e, 0, 8) { dq$c = fma(Chunk(ds$e), subgroupShuffle(kp$c, $(e)u), dq$c); }
      }
    }
    key += 8u;
  }

  for (var store = 0u; store < $((SLICE + 3) / 4)u; store++) {
    @unroll(i, 0, 4) { var dq_$i = Chunk(0.0); }
    @unroll(c, 0, SLICE) { dq_$(c % 4) = select(dq_$(c % 4), dq$c, store == $(c / 4)u); }
    let column = part + store * 4u;
    let columns = min(part + $(SLICE)u, $(CHUNKS)u);
    @unroll(i, 0, 4) {
      if (first + lane < end && column + $(i)u < columns) {
        d_q[base + column + $(i)u] = dq_$i * params.scale;
      }
    }
  }
}
