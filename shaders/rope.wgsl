// Rotary embedding in place, in Hugging Face's half-split layout: the pair (x[i], x[i + half]) of a head turns by
// direction * angle[position, i]; dimensions past 2 half stay. direction = -1 is the transpose: the gradient.
// One invocation turns one head of one token; workgroups of 64, folded.

struct Params { tokens: u32, heads: u32, head_dim: u32, half: u32, direction: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [tokens]
@group(0) @binding(2) var<storage, read> rotations: array<vec2<f32>>; // [positions, half] (cos, sin)
@group(0) @binding(3) var<storage, read_write> x: array<f32>; // [tokens, heads, head_dim]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let index = (group.y * groups.x + group.x) * 64u + local;
  if (index >= params.tokens * params.heads) {
    return;
  }
  let half = params.half;
  let table = positions[index / params.heads] * half;
  let base = index * params.head_dim;
  for (var i = 0u; i < half; i++) {
    let turn = rotations[table + i];
    let sine = turn.y * params.direction;
    let first = x[base + i];
    let second = x[base + half + i];
    x[base + i] = first * turn.x - second * sine;
    x[base + half + i] = second * turn.x + first * sine;
  }
}
