/** Every combination of what the tests vary: designs, layouts, storage types, epilogues, ranks, sizes. */
import { gpuEnvironment } from "../../src/cli/_gpu_environment.ts";
import { TEST_COMMAND } from "../test.ts";
import type { Soak } from "./_soak.ts";

/** Tests that `deno task test --all` leaves combinations out of. */
const FILES = ["tests/gpu/ops/matmul_test.ts", "tests/service/crash_test.ts", "tests/tasks/soak_test.ts"];

/** What `tests/helpers/tier.ts` leaves to it. */
export const variants: Soak = {
  proves: "What the tests say of some combinations of variants holds of all of them.",
  version: 1,
  cells: FILES,
  minutesPerCell: 8,
  run: async (file, signal) => {
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [...TEST_COMMAND, file],
      env: { ...gpuEnvironment(), NO_COLOR: "1" },
      stdin: "null",
      stderr: "inherit",
      signal,
    }).output();
    const output = new TextDecoder().decode(stdout);
    if (!success) throw new Error(output.slice(output.indexOf(" ERRORS ")));
    return { passed: Number(/^ok \| (\d+) passed/m.exec(output)?.[1]) };
  },
};
