// The device's ceiling: multiply-adds on registers and nothing else, a vec4 chain a round of the loop, CHAINS of them
// independent. y[i] = the sum of the chains. An invocation does $(CHAINS * 8) * ROUNDS FLOPs a unit of `rounds`.

struct Params { rounds: u32 }

@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [2]: factor and summand, unknown to the compiler
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [invocations]

@compute @workgroup_size($SIZE, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let a = vec4(x[0] + f32(id.x) * 1e-9);
  let b = vec4(x[1]);
  @unroll(c, 0, CHAINS) {
  var sum$c = vec4(f32($c));
  }
  for (var round = 0u; round < params.rounds; round++) {
    @unroll(step, 0, STEPS) {
    @unroll(c, 0, CHAINS) {
    sum$c = fma(sum$c, a, b);
    }
    }
  }
  var total = vec4(0.0);
  @unroll(c, 0, CHAINS) {
  total += sum$c;
  }
  y[id.x] = total.x + total.y + total.z + total.w;
}
