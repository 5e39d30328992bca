// Per row: logprobs[r] = target logit - logsumexp. Per sequence: averages[s] = (mean over its rows of logprobs, mean
// over its rows and the vocabulary of the logits). Where COLLISIONS is 1, collisions[r] turns from sum exp(2 (logit - peak)) into
// log sum_v p_v^2.
// One invocation walks one sequence, eight rows a turn (docs/software_driver.md, Loops): long sums keep their digits.
// Workgroups of 8, folded.

struct Params { sequences: u32, vocabulary: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> state: array<vec4<f32>>; // [rows]
@group(0) @binding(2) var<storage, read> sequence_rows: array<u32>; // [sequences + 1]
@group(0) @binding(3) var<storage, read_write> logprobs: array<f32>; // [rows]
@group(0) @binding(4) var<storage, read_write> averages: array<vec2<f32>>; // [sequences]
@if (COLLISIONS == 1) {
  @group(0) @binding(5) var<storage, read_write> collisions: array<f32>; // [rows]
}

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let sequence = (group.y * groups.x + group.x) * 8u + local;
  if (sequence >= params.sequences) {
    return;
  }
  let first = sequence_rows[sequence];
  let last = sequence_rows[sequence + 1u];
  var sum = vec2<f32>(0.0);
  for (var start = first; start < last; start += 8u) {
    var part = vec2<f32>(0.0);
    @unroll(i, 0, 8) {
      {
        let row = start + $(i)u;
        if (row < last) {
          let s = state[row];
          let logprob = s.z - s.x - log(s.y);
          logprobs[row] = logprob;
          @if (COLLISIONS == 1) { collisions[row] = log(collisions[row]) - 2.0 * log(s.y); }
          part += vec2<f32>(logprob, s.w / f32(params.vocabulary));
        }
      }
    }
    sum += part;
  }
  averages[sequence] = sum / f32(max(last - first, 1u)); // a prompt of one token has no row
}
