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
      recordRope(program, { x: turned, ...shared }, { head_dim: headDim, direction });
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

Deno.test("recordRope() leaves a head's dimensions past the rotated ones, and scales the others by the table", async () => {
  for (const [headDim, rotated] of [[10, 6], [20, 8], [18, 8]] as const) await check(headDim, rotated);

  async function check(headDim: number, rotated: number): Promise<void> {
    const [tokens, heads, factor] = [37, 3, 1.25];
    const source = random(5);
    const positions = source.integers(tokens, 50);
    const frequencies = Float32Array.from({ length: rotated / 2 }, (_, i) => 100 ** (-2 * i / rotated));
    const x = source.normals(tokens * heads * headDim);
    const turned = output(gpu, tokens, heads * headDim, x);
    const rotations = gpu.upload("rotations", [50, rotated / 2, 2], ropeRotations(frequencies, 50, factor));
    const program = new Program<{ tokens: number }>(gpu, "test");
    recordRope(program, { x: turned, positions: input(gpu, positions, 1), rotations }, {
      head_dim: headDim,
      direction: 1,
    });
    program.run({ tokens });
    const { cos, sin } = ropeTables(positions, frequencies);
    const part = x.filter((_, i) => i % headDim < rotated);
    const partly = rope(part, cos, sin, { tokens, heads, headDim: rotated });
    const expected = x.map((value, i) => {
      const [head, column] = [Math.floor(i / headDim), i % headDim];
      return column < rotated ? factor * partly[head * rotated + column]! : value;
    });
    assertClose((await readLive(gpu, turned))[0]!, expected, { rtol: 1e-5 });
  }
});
