// What the matrix kernels share: C[m, n] = alpha * sum_k X[m, k] Y[k, n] (+ C[m, n]) over k in [k_begin, k_end).
//   LAYOUT 0 (NT): X = A [m, k], Y = B [n, k] transposed
//   LAYOUT 1 (NN): X = A [m, k], Y = B [k, n]
//   LAYOUT 2 (TN): X = A [k, m] transposed, Y = B [k, n]
// With PARTS 2 the sums go on over the `rank` products of a second pair of operands, U for A and V for B: a low-rank
// update costs its own steps of k and no pass over C.
// Where BIASED is 1 a bias [n] is added to every row; where RESIDUAL is 1 a tensor of C's shape takes C's place in the sum;
// where GATED is 1 C holds gates, and becomes activated(C) times the result instead.
// matmul_registers.wgsl computes the columns [n_begin, n) of C alone, and a workgroup's columns of B start b_panel elements
// after those of the one before: B may be a copy in panels (pack_panels.wgsl). The tiled kernel heeds neither.
// A row of an operand starts a stride after the one before. ALIGNED is 1 where all strides are multiples of 4. READS_C
// is 0 where C need not be read before it is stored: nothing of it is used and n is a multiple of 4. Kernels clamp their
// loads to the operands and mask what lies past k_end; stores are guarded.
// Needs: ALIGNED, BIASED, GATED, PARTS, READS_C, RESIDUAL, WIDTH; load_b1(), load_b4() of storage_*.wgsl; activated() of
// activated.wgsl where GATED is 1.

struct Params {
  m: u32,
  n_begin: u32,
  n: u32,
  k_begin: u32,
  k_end: u32,
  a_stride: u32,
  b_stride: u32,
  b_panel: u32,
  c_stride: u32,
  accumulate: u32,
  alpha: f32,
  k_split: u32,
  @if (PARTS == 2) {
    rank: u32,
    u_stride: u32,
    v_stride: u32,
  }
}

@group(0) @binding(0) var<storage, read> params: Params;
// @binding(2) b is [n, k] for NT, else [k, n]; the storage prelude declares it
@if (ALIGNED == 1) {
  @group(0) @binding(1) var<storage, read> a: array<vec4<f32>>; // [m, k], for TN [k, m]
  @group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>; // [m, n]
} @else {
  @group(0) @binding(1) var<storage, read> a: array<f32>; // [m, k], for TN [k, m]
  @group(0) @binding(3) var<storage, read_write> c: array<f32>; // [m, n]
}

@if (PARTS == 2) {
  @if (ALIGNED == 1) {
    @group(0) @binding(4) var<storage, read> u: array<vec4<f32>>; // [m, rank]
    @group(0) @binding(5) var<storage, read> v: array<vec4<f32>>; // [n, rank] for NT, else [rank, n]
  } @else {
    @group(0) @binding(4) var<storage, read> u: array<f32>; // [m, rank]
    @group(0) @binding(5) var<storage, read> v: array<f32>; // [n, rank] for NT, else [rank, n]
  }
}

@if (BIASED == 1) {
  @if (ALIGNED == 1) {
    @group(0) @binding(6) var<storage, read> bias: array<vec4<f32>>; // [n]
  } @else {
    @group(0) @binding(6) var<storage, read> bias: array<f32>; // [n]
  }
}

@if (RESIDUAL == 1) {
  @group(0) @binding(7) var<storage, read> residual: array<vec4<f32>>; // [m, n]
}

// Neighbouring outputs of a row that are computed together.
@if (WIDTH == 4) {
  alias Outputs = vec4<f32>;
} @else {
  alias Outputs = f32;
}

// What the parts of the sum differ in: steps of k, and loads of four or one from the operands.
struct Part {
  k_begin: u32,
  k_end: u32,
  a_stride: u32,
  b_stride: u32,
}

fn part0() -> Part {
  return Part(params.k_begin, params.k_end, params.a_stride, params.b_stride);
}

fn load_a4_part0(index: u32) -> vec4<f32> {
  @if (ALIGNED == 1) {
    return a[index / 4u];
  } @else {
    return vec4(a[index], a[index + 1u], a[index + 2u], a[index + 3u]);
  }
}

fn load_b4_part0(index: u32) -> vec4<f32> {
  return load_b4(index);
}

fn load_b1_part0(index: u32) -> f32 {
  return load_b1(index);
}

@if (PARTS == 2) {
  fn part1() -> Part {
    return Part(0u, params.rank, params.u_stride, params.v_stride);
  }

  fn load_a4_part1(index: u32) -> vec4<f32> {
    @if (ALIGNED == 1) {
      return u[index / 4u];
    } @else {
      return vec4(u[index], u[index + 1u], u[index + 2u], u[index + 3u]);
    }
  }

  fn load_b4_part1(index: u32) -> vec4<f32> {
    @if (ALIGNED == 1) {
      return v[index / 4u];
    } @else {
      return vec4(v[index], v[index + 1u], v[index + 2u], v[index + 3u]);
    }
  }

  fn load_b1_part1(index: u32) -> f32 {
    @if (ALIGNED == 1) {
      return v[index / 4u][index % 4u];
    } @else {
      return v[index];
    }
  }
}

// Zero where `inside` is 0, whatever lies past the operand's end.
fn masked(values: vec4<f32>, inside: vec4<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(values) & inside);
}

// The bias of the outputs from a column on.
fn bias_of(column: u32) -> Outputs {
  @if (BIASED == 0) {
    return Outputs();
  } @else {
    @if (ALIGNED == 1) {
      @if (WIDTH == 4) {
        return bias[column / 4u];
      } @else {
        return bias[column / 4u][column % 4u];
      }
    } @else {
      @if (WIDTH == 4) {
        return vec4(bias[column], bias[column + 1u], bias[column + 2u], bias[column + 3u]);
      } @else {
        return bias[column];
      }
    }
  }
}

// What is stored where C was `before`.
fn result(p: Params, before: Outputs, sums: Outputs, shift: Outputs) -> Outputs {
  @if (GATED == 1) {
    return activated(before) * fma(Outputs(p.alpha), sums, shift);
  } @else {
    @if (READS_C == 1 || RESIDUAL == 1) {
      return fma(Outputs(p.alpha), sums, shift + select(Outputs(), before, p.accumulate == 1u));
    } @else {
      @if (BIASED == 1) {
        return fma(Outputs(p.alpha), sums, shift);
      } @else {
        return p.alpha * sums;
      }
    }
  }
}

// Stores the outputs from a column on; `shift` is their bias_of(). The caller loads parameters and bias once: the software
// driver would load them again after every store, lane by lane.
fn store(p: Params, index: u32, column: u32, sums: Outputs, shift: Outputs) {
  @if (WIDTH == 4 && ALIGNED == 1) {
    if (column < p.n) {
      @if (RESIDUAL == 1) {
        c[index / 4u] = result(p, residual[index / 4u], sums, shift);
      } @else {
        @if (READS_C == 1) {
          let before = c[index / 4u];
          let after = result(p, before, sums, shift);
          c[index / 4u] = select(before, after, vec4(column, column + 1u, column + 2u, column + 3u) < vec4(p.n));
        } @else {
          c[index / 4u] = result(p, Outputs(), sums, shift);
        }
      }
    }
  } @else {
    var before = Outputs();
    @if (READS_C == 1) {
      @unroll(e, 0, WIDTH) {
        if (column + $(e)u < p.n) {
          @if (WIDTH == 4) {
            before[$e] = c[index + $(e)u];
          } @else {
            before = c[index / 4u][index % 4u];
          }
        }
      }
    }
    let after = result(p, before, sums, shift);
    @unroll(e, 0, WIDTH) {
      if (column + $(e)u < p.n) {
        @if (WIDTH == 4) {
          c[index + $(e)u] = after[$e];
        } @else {
          c[index / 4u][index % 4u] = after;
        }
      }
    }
  }
}
