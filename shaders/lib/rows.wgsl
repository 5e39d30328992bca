// Prelude of kernels that reduce along rows: calls the kernel's work_on(row, lane) for every row below its row_count().
// LANES invocations share a row: many on a GPU, where neighbours must read neighbouring addresses; one on the software
// driver, where a row an invocation is fastest and needs no barrier. A workgroup has ROWS rows; rows are dispatched folded
// over x and y.
// Needs: LANES, ROWS; of the kernel row_count(), work_on().

@if (LANES == 1) {
  fn row_sum(value: f32, lane: u32) -> f32 {
    return value;
  }

  fn row_max(value: f32, lane: u32) -> f32 {
    return value;
  }
} @else {
  var<workgroup> partial: array<f32, $LANES>;

  fn row_sum(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    for (var half = $(LANES / 2)u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (lane < half) {
        partial[lane] += partial[lane + half];
      }
    }
    workgroupBarrier();
    return partial[0];
  }

  fn row_max(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    for (var half = $(LANES / 2)u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (lane < half) {
        partial[lane] = max(partial[lane], partial[lane + half]);
      }
    }
    workgroupBarrier();
    return partial[0];
  }
}

@compute @workgroup_size($(LANES * ROWS), 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  var row = (group.y * groups.x + group.x) * $(ROWS)u;
  // Where barriers follow, no row may hang on the invocation, or their control flow would not count as uniform.
  @if (ROWS > 1) { row += local / $(LANES)u; }
  if (row < row_count()) {
    work_on(row, local % $(LANES)u);
  }
}
