// C[m, n] = alpha * sum_k X[m, k] Y[k, n] (+ C[m, n]) through tiles in workgroup memory, for GPUs. Operands and layouts
// as in matmul_operands.wgsl.
// A workgroup computes TILE_M x TILE_N outputs in steps of TILE_K; an invocation ROWS x COLUMNS of them, in blocks of
// 4 x 4 that lie half a tile apart, so that neighbours read neighbouring vec4 and no banks conflict.
// Workgroups may share an output's steps of k, k_split each, a multiple of TILE_K; each then stores a C [m, n] of its own,
// one after another, for sum_splits.wgsl to add up.
// Dispatch [ceil(m / TILE_M), ceil(n / TILE_N), ceil((k_end - k_begin) / k_split)].

// The tiles lie k-major, by fours along m and n: xs[k][m / 4], ys[k][n / 4].
var<workgroup> xs: array<vec4<f32>, $(TILE_K * TILE_M / 4)>;
var<workgroup> ys: array<vec4<f32>, $(TILE_K * TILE_N / 4)>;

// Which 4 x 4 block of a tile an invocation fills: x by fours along m or n, y by fours along k. Where the operand's rows
// run along k, a row of 64 bytes is read by invocations 8 apart, so that 8 neighbours write side by side.
fn block_of(index: u32, width: u32, along_k: bool) -> vec2<u32> {
  if (along_k && width >= 8u) {
    return vec2(index % 8u + index / 32u % (width / 8u) * 8u, index / 8u % 4u + index / (4u * width) * 4u);
  }
  return vec2(index % width, index / width);
}

fn inside(k: u32, k_end: u32) -> vec4<u32> {
  return select(vec4(0u), vec4(0xffffffffu), vec4(k, k + 1u, k + 2u, k + 3u) < vec4(k_end));
}

@unroll(part, 0, PARTS) {
  fn fill_x_part$part(index: u32, m0: u32, k0: u32) {
    let part = part$part();
    let block = block_of(index, $(TILE_M / 4)u, $(LAYOUT != 2) == 1);
    let k = k0 + 4u * block.y;
    let mask = inside(k, part.k_end);
    let to = 4u * block.y * $(TILE_M / 4)u + block.x;
    @if (LAYOUT == 2) {
      let column = min(m0 / 4u + block.x, (params.m - 1u) / 4u) * 4u;
      @unroll(q, 0, 4) {
        let row$q = min(k + $(q)u, part.k_end - 1u) * part.a_stride;
        xs[to + $(q * TILE_M / 4)u] = masked(load_a4_part$part(row$q + column), vec4(mask[$q]));
      }
    } @else {
      @unroll(e, 0, 4) {
        let row$e = min(m0 + 4u * block.x + $(e)u, params.m - 1u) * part.a_stride;
        let x$e = masked(load_a4_part$part(row$e + k), mask);
      }
      @unroll(q, 0, 4) {
        xs[to + $(q * TILE_M / 4)u] = vec4(x0[$q], x1[$q], x2[$q], x3[$q]);
      }
    }
  }

  fn fill_y_part$part(index: u32, n0: u32, k0: u32) {
    let part = part$part();
    let block = block_of(index, $(TILE_N / 4)u, $(LAYOUT == 0) == 1);
    let k = k0 + 4u * block.y;
    let mask = inside(k, part.k_end);
    let to = 4u * block.y * $(TILE_N / 4)u + block.x;
    @if (LAYOUT == 0) {
      @unroll(e, 0, 4) {
        let row$e = min(n0 + 4u * block.x + $(e)u, params.n - 1u) * part.b_stride;
        let y$e = masked(load_b4_part$part(row$e + k), mask);
      }
      @unroll(q, 0, 4) {
        ys[to + $(q * TILE_N / 4)u] = vec4(y0[$q], y1[$q], y2[$q], y3[$q]);
      }
    } @else {
      let column = min(n0 / 4u + block.x, (params.n - 1u) / 4u) * 4u;
      @unroll(q, 0, 4) {
        let row$q = min(k + $(q)u, part.k_end - 1u) * part.b_stride;
        ys[to + $(q * TILE_N / 4)u] = masked(load_b4_part$part(row$q + column), vec4(mask[$q]));
      }
    }
  }
}

@compute @workgroup_size($(TILE_N / COLUMNS), $(TILE_M / ROWS), 1)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(local_invocation_index) index: u32,
) {
  let m0 = group.x * $(TILE_M)u;
  let n0 = group.y * $(TILE_N)u;
  @unroll(i, 0, ROWS) {
    @unroll(j, 0, COLUMNS / 4) {
      var c$i_$j = vec4<f32>();
    }
  }

  @unroll(part, 0, PARTS) {
    let begin$part = part$part().k_begin + group.z * params.k_split;
    let end$part = min(part$part().k_end, begin$part + params.k_split);
    for (var k0 = begin$part; k0 < end$part; k0 += $(TILE_K)u) {
      // The invocations take the 4 x 4 blocks of both tiles, first those of X.
      @unroll(pass, 0, TILE_K * (TILE_M + TILE_N) * ROWS * COLUMNS / (16 * TILE_M * TILE_N)) {
        {
          let block = index + $(pass * TILE_M * TILE_N / (ROWS * COLUMNS))u;
          if (block < $(TILE_K * TILE_M / 16)u) {
            fill_x_part$part(block, m0, k0);
          } else {
            fill_y_part$part(block - $(TILE_K * TILE_M / 16)u, n0, k0);
          }
        }
      }
      workgroupBarrier();
      for (var k = 0u; k < $(TILE_K)u; k += 4u) {
        @unroll(q, 0, 4) {
          {
            @unroll(i, 0, ROWS / 4) {
              let x$i = xs[(k + $(q)u) * $(TILE_M / 4)u + local.y + $(i * TILE_M / 8)u];
            }
            @unroll(j, 0, COLUMNS / 4) {
              let y$j = ys[(k + $(q)u) * $(TILE_N / 4)u + local.x + $(j * TILE_N / 8)u];
            }
            @unroll(i, 0, ROWS) {
              @unroll(j, 0, COLUMNS / 4) {
                c$i_$j = fma(vec4(x$(i / 4)[$(i % 4)]), y$j, c$i_$j);
              }
            }
          }
        }
      }
      workgroupBarrier();
    }
  }

  let p = params;
  @unroll(j, 0, COLUMNS / 4) {
    let column$j = n0 + $(j * TILE_N / 2)u + 4u * local.x;
    let bias$j = bias_of(column$j);
  }
  @unroll(i, 0, ROWS) {
    {
      let row = m0 + $(i / 4 * (TILE_M / 2) + i % 4)u + 4u * local.y;
      if (row < p.m) {
        @unroll(j, 0, COLUMNS / 4) {
          store(p, (group.z * p.m + row) * p.c_stride + column$j, column$j, c$i_$j, bias$j);
        }
      }
    }
  }
}
