import { Gpu, Program } from "../../../src/gpu/mod.ts";
import { recordRope, ropeRotations } from "../../../src/gpu/ops/rope.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { rope, ropeInverse, ropeTables } from "../../reference/cpu.ts";
import { input, output, readLive } from "./_tensors.ts";

const gpu = await Gpu.open({ device: "auto" });

Deno.test("recordRope() turns heads by their token's position, forward and back", async () => {
  const cases = [
    { tokens: 1, heads: 1, headDim: 2 },
    { tokens: 37, heads: 3, headDim: 6 },
    { tokens: 65, heads: 5, headDim: 20 },
    { tokens: 11, heads: 2, headDim: 128 },
    { tokens: 4099, heads: 1024, headDim: 2 }, // more than 65,535 workgroups
  ];
  for (const shape of cases) {
    const { tokens, heads, headDim } = shape;
    const source = random(tokens);
    const longest = 300;
    const frequencies = Float32Array.from({ length: headDim / 2 }, (_, i) => 1e4 ** (-2 * i / headDim));
    const positions = source.integers(tokens, longest);
    const x = source.normals(tokens * heads * headDim);
    const shared = {
      positions: input(gpu, positions, 1),
      rotations: gpu.upload("rotations", [longest, headDim / 2, 2], ropeRotations(frequencies, longest)),
    };
    const { cos, sin } = ropeTables(positions, frequencies);
    for (const direction of [1, -1] as const) {
      const turned = output(gpu, tokens, heads * headDim, x);
      const program = new Program<{ tokens: number }>(gpu, "test");
      recordRope(program, { x: turned, ...shared }, headDim, direction);
      program.run({ tokens });
      const expected = (direction === 1 ? rope : ropeInverse)(x, cos, sin, shape);
      // the angle is an f32, as transformers has it: half a unit of 300 in its last place
      assertClose((await readLive(gpu, turned))[0]!, expected, {
        rtol: 1e-5,
        name: `${JSON.stringify(shape)} ${direction}`,
      });
      gpu.free(turned);
    }
  }
});
