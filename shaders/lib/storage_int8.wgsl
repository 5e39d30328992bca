// Loads the operand B from int8 storage: blocks of 32 neighbours of a row, 9 words each, the first the block's scale as
// f32, the others its numbers by fours, low byte first; a weight is scale * number. Indices count elements; load_b4 reads
// four neighbours, whose first index is a multiple of 4.
// Needs: nothing.

@group(0) @binding(2) var<storage, read> b: array<u32>;

fn load_b4(index: u32) -> vec4<f32> {
  let block = index / 32u * 9u;
  let numbers = unpack4xI8(b[block + 1u + index % 32u / 4u]);
  return bitcast<f32>(b[block]) * vec4<f32>(numbers);
}

fn load_b1(index: u32) -> f32 {
  return load_b4(index)[index % 4u];
}
