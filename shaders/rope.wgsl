// Rotary embedding in place, in Hugging Face's half-split layout: the pair (x[i], x[i + half]) of a head turns by
// direction * angle[position, i]; dimensions past 2 half stay. direction = -1 is the transpose: the gradient.
// An element is a chunk of i of one head of one token.
// Preludes: chunks.wgsl, elements.wgsl.

struct Params { tokens: u32, heads: u32, head_chunks: u32, half_chunks: u32, direction: f32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [tokens]
@if (WIDTH == 4) {
  @group(0) @binding(2) var<storage, read> rotations: array<vec4<f32>>; // [positions, half / 2] (cos, sin) of two
} @else {
  @group(0) @binding(2) var<storage, read> rotations: array<vec2<f32>>; // [positions, half] (cos, sin)
}
@group(0) @binding(3) var<storage, read_write> x: array<Chunk>; // [tokens, heads, head_chunks]

fn element_count(params: Params) -> u32 {
  return params.tokens * params.heads * params.half_chunks;
}

fn element(at: u32, params: Params) {
  let head = at / params.half_chunks; // of all tokens
  let chunk = at % params.half_chunks;
  let angle = positions[head / params.heads] * params.half_chunks + chunk;
  @if (WIDTH == 4) {
    let early = rotations[2u * angle];
    let late = rotations[2u * angle + 1u];
    let cosine = vec4(early.xz, late.xz);
    let sine = params.direction * vec4(early.yw, late.yw);
  } @else {
    let cosine = rotations[angle].x;
    let sine = params.direction * rotations[angle].y;
  }
  let first = head * params.head_chunks + chunk;
  let second = first + params.half_chunks;
  let x_first = x[first];
  let x_second = x[second];
  x[first] = x_first * cosine - x_second * sine;
  x[second] = x_second * cosine + x_first * sine;
}
