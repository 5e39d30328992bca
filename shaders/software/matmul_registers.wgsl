// C[m, n] = alpha * sum_k X[m, k] Y[k, n] (+ C[m, n]), accumulated in registers without workgroup memory, for drivers
// that run an invocation as one lane of a CPU's SIMD. Operands and layouts as in matmul_operands.wgsl.
// One invocation computes ROWS x (COLUMNS * WIDTH) outputs; the 8 of a workgroup lie side by side along n. With SHARED 1
// (subgroups of 8 lanes) each lane loads an eighth of the rows of X and the lanes pass them round; with 0 each loads all.
// Dispatch [ceil(m / ROWS), ceil((n - n_begin) / (8 COLUMNS WIDTH)), 1]: workgroups that follow each other share columns of Y.

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let lane = local.x;
  let m0 = group.x * $(ROWS)u;
  let group_n = params.n_begin + group.y * $(8 * COLUMNS * WIDTH)u;
  let n0 = group_n + lane * $(COLUMNS * WIDTH)u;
  let last_m = params.m - 1u;
  let last_n = params.n - 1u;

  @unroll(i, 0, ROWS) {
    @unroll(j, 0, COLUMNS) {
      var c$i_$j = Outputs();
    }
  }
  @unroll(part, 0, PARTS) {
    {
      // Out of the loop by hand: the software driver would load them again every turn, lane by lane.
      let part = part$part();
      let k_end = part.k_end;
      let a_stride = part.a_stride;
      let b_stride = part.b_stride;

      // Where this invocation's rows of A start (for TN columns, by fours) and its rows of B (for NN and TN columns).
      @if (LAYOUT == 2) {
        @if (SHARED == 1) {
          let a0 = min(m0 / 4u + lane % $(ROWS / 4)u, last_m / 4u) * 4u;
        } @else {
          @unroll(i, 0, ROWS / 4) {
            let a$i = min(m0 / 4u + $(i)u, last_m / 4u) * 4u;
          }
        }
      } @else {
        @if (SHARED == 1) {
          @unroll(i, 0, ROWS / 8) {
            let a$i = min(m0 + $(8 * i)u + lane, last_m) * a_stride;
          }
        } @else {
          @unroll(i, 0, ROWS) {
            let a$i = min(m0 + $(i)u, last_m) * a_stride;
          }
        }
      }
      @if (LAYOUT == 0) {
        @unroll(j, 0, COLUMNS * WIDTH) {
          let b$j = min(n0 + $(j)u, last_n) * b_stride;
        }
      } @else {
        @if (part == 0) {
          let group_b = group.y * params.b_panel;
        } @else {
          let group_b = group_n;
        }
        @unroll(j, 0, COLUMNS) {
          let b$j = group_b + min(lane * $(COLUMNS)u + $(j)u, (last_n - group_n) / $(WIDTH)u) * $(WIDTH)u;
        }
      }

      for (var k = part.k_begin; k < k_end; k += 4u) {
        let inside = select(vec4(0u), vec4(0xffffffffu), vec4(k, k + 1u, k + 2u, k + 3u) < vec4(k_end));
        // y<q>_<j> = Y[k + q, n0 + j WIDTH ...]
        @if (LAYOUT == 0) {
          @unroll(j, 0, COLUMNS * WIDTH) {
            let row$j = masked(load_b4_part$part(b$j + k), inside);
          }
          @unroll(q, 0, 4) {
            @unroll(j, 0, COLUMNS) {
              @if (WIDTH == 4) {
                let y$q_$j = vec4(row$(4 * j)[$q], row$(4 * j + 1)[$q], row$(4 * j + 2)[$q], row$(4 * j + 3)[$q]);
              } @else {
                let y$q_$j = row$j[$q];
              }
            }
          }
        } @else {
          @unroll(q, 0, 4) {
            let b_row$q = min(k + $(q)u, k_end - 1u) * b_stride;
            @unroll(j, 0, COLUMNS) {
              let y$q_$j = load_b$(WIDTH)_part$part(b_row$q + b$j);
            }
          }
        }
        // x<q> = X[m0 ..., k + q], or X[m0 + i, k ...]
        @if (LAYOUT == 2) {
          @unroll(q, 0, 4) {
            let a_row$q = min(k + $(q)u, k_end - 1u) * a_stride;
            @if (SHARED == 1) {
              let mine$q = masked(load_a4_part$part(a_row$q + a0), vec4(inside[$q]));
            }
          }
          @unroll(v, 0, ROWS / 4) {
            {
              @unroll(q, 0, 4) {
                @if (SHARED == 1) {
                  let x$q = subgroupShuffle(mine$q, $(v)u);
                } @else {
                  let x$q = masked(load_a4_part$part(a_row$q + a$v), vec4(inside[$q]));
                }
              }
              @unroll(e, 0, 4) {
                @unroll(q, 0, 4) {
                  @unroll(j, 0, COLUMNS) {
                    c$(4 * v + e)_$j = fma(Outputs(x$q[$e]), y$q_$j, c$(4 * v + e)_$j);
                  }
                }
              }
            }
          }
        } @else {
          @if (SHARED == 1) {
            @unroll(i, 0, ROWS / 8) {
              let mine$i = masked(load_a4_part$part(a$i + k), inside);
            }
          }
          @unroll(i, 0, ROWS) {
            {
              @if (SHARED == 1) {
                let x = subgroupShuffle(mine$(i / 8), $(i % 8)u);
              } @else {
                let x = masked(load_a4_part$part(a$i + k), inside);
              }
              @unroll(q, 0, 4) {
                @unroll(j, 0, COLUMNS) {
                  c$i_$j = fma(Outputs(x[$q]), y$q_$j, c$i_$j);
                }
              }
            }
          }
        }
      }
    }
  }

  let p = params;
  @unroll(j, 0, COLUMNS) {
    let bias$j = bias_of(n0 + $(j * WIDTH)u);
  }
  // Four rows at a time: stores compile slowly, so the later rows move up into the names of the first.
  for (var row = m0; row < min(m0 + $(ROWS)u, p.m); row += 4u) {
    @unroll(i, 0, 4) {
      if (row + $(i)u < p.m) {
        @unroll(j, 0, COLUMNS) {
          store(p, (row + $(i)u) * p.c_stride + n0 + $(j * WIDTH)u, n0 + $(j * WIDTH)u, c$i_$j, bias$j);
        }
      }
    }
    @unroll(i, 4, ROWS) {
      @unroll(j, 0, COLUMNS) {
        c$(i - 4)_$j = c$i_$j;
      }
    }
  }
}
