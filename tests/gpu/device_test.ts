import assert from "node:assert/strict";
import { DeviceLostError, InputError } from "../../src/errors.ts";
import { defineKernel, Gpu, GpuMemoryError, Program, rowsOf } from "../../src/gpu/mod.ts";
import { random } from "../helpers/random.ts";

const gpu = await Gpu.open({ device: "auto" });

Deno.test("Gpu.open() says what it opened", () => {
  const { limits } = gpu.device;
  const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  assert.equal(gpu.maxTensorBytes, most - most % 16);
  assert.ok(limits.maxStorageBuffersPerShaderStage >= 8);
  assert.equal(gpu.adapter.subgroupSize > 0, gpu.adapter.features.has("subgroups"));
  assert.equal(gpu.policy.row_lanes, gpu.software ? 1 : 64);
});

Deno.test({
  name: "Gpu.open() refuses the software driver where a GPU is asked for",
  ignore: !gpu.software,
  fn: () =>
    assert.rejects(Gpu.open({ device: "gpu" }), (error) => {
      assert.ok(error instanceof InputError);
      assert.equal(error.field, "SIMPO_DEVICE");
      assert.match(
        error.message,
        /^No GPU answers: set SIMPO_DEVICE=software to run on the software driver \(.+\), slowly\.$/,
      );
      return true;
    }),
});

Deno.test("Gpu.read() and settle() say that the device was lost", async () => {
  const own = await Gpu.open({ device: "auto" });
  const tensor = own.upload("t", [4], new Float32Array(4));
  await own.readF32(tensor);
  own.device.destroy();
  await assert.rejects(own.readF32(tensor), DeviceLostError);
  await assert.rejects(own.settle(), DeviceLostError);
  own.close();
});

Deno.test("Gpu.tensor() is zeroed, accounted under its name, and refused past the limits", async () => {
  const own = await Gpu.open({ device: "auto", memoryLimitBytes: 4096, maxTensorBytes: 2048 });
  const a = own.tensor("a", [3, 5]);
  assert.deepEqual([a.bytes, a.shape, a.dtype], [60, [3, 5], "f32"]);
  assert.deepEqual(await own.readF32(a), new Float32Array(15));
  assert.deepEqual(own.memory.byName(), { a: 64 });
  assert.throws(
    () => own.tensor("wide", [513]),
    /wide \[513\] has 2052 bytes; one binding holds at most 2048/,
  );
  own.tensor("b", [512]);
  assert.throws(() => own.tensor("c", [512]), GpuMemoryError);
  own.free(a);
  own.tensor("c", [512]);
  assert.deepEqual(own.memory.byName(), { b: 2048, c: 2048 });
  own.close();
});

Deno.test("Gpu.read() reads tensors longer than its staging buffer, and several at once", async () => {
  const long = new Uint32Array(9 * 2 ** 20 + 3).map((_, i) => Math.imul(i, 0x9e3779b1));
  const short = random(1).normals(7);
  const tensors = [
    gpu.upload("short", [7], short),
    gpu.upload("long", [long.length], long),
    gpu.upload("empty", [0], new Float32Array(0)),
    gpu.upload("one", [1], Uint32Array.of(7)),
  ];
  const [first, second, third, fourth] = await gpu.read(...tensors);
  assert.deepEqual(first, short);
  assert.ok(second instanceof Uint32Array && second.length === long.length);
  assert.equal(second.findIndex((value, i) => value !== long[i]), -1);
  assert.deepEqual([third, fourth], [new Float32Array(0), Uint32Array.of(7)]);
  gpu.free(...tensors);
});

Deno.test("Gpu.read() gives packed halves as they lie, odd counts included", async () => {
  for (const dtype of ["bf16", "f16"] as const) {
    for (const count of [1, 2, 7, 4099]) {
      const halves = Uint16Array.from({ length: count }, (_, i) => i * 977);
      const tensor = gpu.tensor("packed", [count], dtype);
      assert.equal(tensor.bytes, 2 * count);
      gpu.write(tensor, halves);
      assert.deepEqual(await gpu.read(tensor), [halves]);
    }
  }
});

Deno.test("Gpu.read() answers overlapping calls each with its own tensors", async () => {
  const tensors = Array.from({ length: 5 }, (_, i) => gpu.upload(`${i}`, [1], Float32Array.of(i)));
  const values = await Promise.all(tensors.map((tensor) => gpu.readF32(tensor)));
  assert.deepEqual(values.map(([value]) => value), [0, 1, 2, 3, 4]);
});

Deno.test("Gpu.write() writes at an offset, and refuses what does not fit", async () => {
  const tensor = gpu.upload("x", [4], Float32Array.of(1, 2, 3, 4));
  gpu.write(tensor, Float32Array.of(9), 8);
  gpu.write(tensor, new Float32Array(0), 8);
  assert.deepEqual([...await gpu.readF32(tensor)], [1, 2, 9, 4]);
  assert.throws(() => gpu.write(tensor, new Float32Array(2), 12), /8 bytes at 12 do not fit x of 16/);
  const whole = Float32Array.of(0, 5, 6, 0);
  gpu.write(tensor, whole.subarray(1, 3), 0); // a view keeps its place in its buffer
  assert.deepEqual([...await gpu.readF32(tensor)], [5, 6, 9, 4]);
});

Deno.test("rowsOf() is a view that reads and writes its rows alone", async () => {
  const whole = gpu.upload("whole", [4, 3], Float32Array.from({ length: 12 }, (_, i) => i));
  const rows = rowsOf(whole, 1, 2);
  assert.deepEqual([rows.shape, rows.offset, rows.bytes], [[2, 3], 12, 24]);
  assert.deepEqual([...await gpu.readF32(rows)], [3, 4, 5, 6, 7, 8]);
  gpu.write(rows, Float32Array.of(50), 4);
  const inner = rowsOf(rows, 1, 1);
  assert.deepEqual([...await gpu.readF32(inner)], [6, 7, 8]);
  assert.deepEqual([...await gpu.readF32(whole)], [0, 1, 2, 3, 50, 5, 6, 7, 8, 9, 10, 11]);
});

Deno.test("Gpu.pipeline() compiles a kernel once", () => {
  const definition = {
    name: "nothing",
    source:
      "@group(0) @binding(0) var<storage, read_write> y: array<f32>;\n@compute @workgroup_size(1) fn main() { y[0] = 1.0; }",
  };
  assert.equal(gpu.pipeline(defineKernel(definition)), gpu.pipeline(defineKernel({ ...definition })));
});

/** A device of its own, since a fault stays. */
async function faulty(cause: (gpu: Gpu) => void): Promise<Gpu> {
  const own = await Gpu.open({ device: "auto" });
  cause(own);
  return own;
}

const SHADER_ERROR = defineKernel({
  name: "broken",
  source:
    "@group(0) @binding(0) var<storage, read_write> y: array<f32>;\n@compute @workgroup_size(1) fn main() { y[0] = 1u; }",
});

const CAUSES: Record<string, (gpu: Gpu) => void> = {
  "a shader that does not compile": (own) => {
    const program = new Program(own, "test");
    program.dispatch(
      SHADER_ERROR,
      { y: own.tensor("y", [1]) },
      () => ({ params: {}, workgroups: [1, 1, 1] }),
    );
    program.run({});
  },
  "a use after free": (own) => {
    const y = own.tensor("y", [1]);
    own.free(y);
    const program = new Program(own, "test");
    program.clear(y);
    program.run({});
  },
};

for (const [name, cause] of Object.entries(CAUSES)) {
  Deno.test(`Gpu tells of ${name} when results are asked for`, async () => {
    for (const ask of [(own: Gpu) => own.settle(), (own: Gpu) => own.readF32(own.tensor("z", [4]))]) {
      const own = await faulty(cause);
      await assert.rejects(ask(own), (error) => {
        assert.ok(error instanceof Error);
        assert.match(error.message, /^GPU: /);
        return true;
      });
      assert.throws(() => own.check(), /^Error: GPU: /);
      own.close();
    }
  });
}

/** Makes the driver refuse the next allocation, which no test may wait for it to do by itself. */
function refuseNext({ device }: Gpu): void {
  const pop = device.popErrorScope.bind(device);
  Object.defineProperty(device, "popErrorScope", {
    configurable: true,
    value: async () => {
      Reflect.deleteProperty(device, "popErrorScope");
      await pop();
      return new GPUOutOfMemoryError("not enough memory left");
    },
  });
}

Deno.test("Gpu.allocate() gives what was made, and lets go of it where the driver has no room", async () => {
  const own = await Gpu.open({ device: "auto" });
  const specs = [{ name: "a", shape: [5], dtype: "f32" }, {
    name: "b",
    shape: [3, 2],
    dtype: "u32",
  }] as const;
  refuseNext(own);
  await assert.rejects(own.tensors(specs), {
    name: "GpuMemoryError",
    message: "The driver has no room for more (not enough memory left); 0.0 MiB are in use.",
  });
  assert.equal(own.memory.bytes, 0);
  await own.settle(); // no fault: the device serves others
  const [a, b] = await own.tensors(specs);
  assert.deepEqual([a!.shape, b!.shape, b!.dtype], [[5], [3, 2], "u32"]);
  assert.deepEqual(await own.readF32(a!), new Float32Array(5));
  own.close();
});

Deno.test("Gpu.allocate() lets go of what was made before the limit", async () => {
  const own = await Gpu.open({ device: "auto", memoryLimitBytes: 100 });
  const specs = ["a", "b"].map((name) => ({ name, shape: [16], dtype: "f32" as const }));
  await assert.rejects(own.tensors(specs), { name: "GpuMemoryError", message: /^b needs/ });
  assert.equal(own.memory.bytes, 0);
  own.close();
});

Deno.test("Gpu.allocate() tells of any other mistake as a fault", async () => {
  const own = await Gpu.open({ device: "auto" });
  const gone = own.tensor("gone", [4]);
  own.free(gone);
  const make = () => {
    own.write(gone, new Float32Array(4));
    return { free: () => {} };
  };
  await assert.rejects(own.allocate(make), /^Error: GPU: /);
  assert.throws(() => own.check(), /^Error: GPU: /);
  own.close();
});

Deno.test("Gpu tells of a driver without memory as such", async () => {
  const own = await faulty(({ device }) => {
    const error = new GPUOutOfMemoryError("Not enough memory left.");
    device.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error }));
  });
  assert.throws(() => own.check(), { name: "GpuMemoryError", message: "GPU: Not enough memory left." });
  own.close();
});

Deno.test("Gpu.close() is no fault", async () => {
  const own = await Gpu.open({ device: "auto" });
  await own.settle();
  own.close();
  await new Promise((resolve) => setTimeout(resolve, 0));
  own.check();
});

Deno.test("requestAdapter() names SIMPO_DEVICE=software in its first sentence where no driver answers at all", async () => {
  const there = navigator.gpu.requestAdapter;
  Object.defineProperty(navigator.gpu, "requestAdapter", {
    value: () => Promise.resolve(null),
    configurable: true,
  });
  try {
    for (const device of ["gpu", "software", "auto"] as const) {
      await assert.rejects(Gpu.open({ device }), (error) => {
        assert.ok(error instanceof InputError);
        assert.match(
          error.message,
          /^No GPU answers, nor the software driver that SIMPO_DEVICE=software runs on: /,
        );
        assert.equal(error.status, 503);
        return true;
      });
    }
  } finally {
    Object.defineProperty(navigator.gpu, "requestAdapter", { value: there, configurable: true });
  }
});
