import type { Live } from "../program.ts";
import { STORAGE } from "../storage.ts";
import type { Tensor } from "../tensor.ts";
import type { Product } from "./matmul.ts";

/** @throws {TypeError} where the tensors' types or shapes do not fit the layout */
export function checkMatmul<L extends Live>(product: Product<L>): void {
  const { layout, a, b, c, low_rank } = product;
  const name = `matmul ${layout} of ${a.name} and ${b.name}`;
  if (a.dtype !== "f32" || c.dtype !== "f32") throw new TypeError(`${name}: A and C must be f32.`);
  if (b.dtype === "u32" || (b.dtype !== "f32" && layout === "TN")) {
    throw new TypeError(`${name}: B cannot be ${b.dtype}.`);
  }
  if ([a, b, c].some((tensor) => tensor.shape.length !== 2)) {
    throw new TypeError(
      `${name}: shapes must be [rows, columns], not [${a.shape}], [${b.shape}], [${c.shape}].`,
    );
  }
  const { row_multiple } = STORAGE[b.dtype];
  if (b.shape[1]! % row_multiple !== 0) {
    throw new TypeError(
      `${name}: rows of ${b.dtype} must be a multiple of ${row_multiple} long, not ${b.shape[1]}.`,
    );
  }
  checkEpilogue(name, product);
  if (!low_rank) return;
  const { u, v } = low_rank;
  const [columns, r] = layout === "NT" ? v.shape : v.shape.toReversed();
  if (
    layout === "TN" || u.dtype !== "f32" || v.dtype !== "f32" || u.shape[0]! < a.shape[0]! ||
    columns !== b.shape[layout === "NT" ? 0 : 1] || r !== u.shape[1]
  ) {
    throw new TypeError(
      `${name}: ${u.name} [${u.shape}] and ${v.name} [${v.shape}] are no low-rank update of it.`,
    );
  }
}

function checkEpilogue<L extends Live>(name: string, product: Product<L>): void {
  const { layout, b, c, bias, residual, gate, accumulate, n = c.shape[1] } = product;
  const isF32 = ({ dtype, shape }: Tensor, wanted: readonly (number | undefined)[]) =>
    dtype === "f32" && shape.join() === wanted.join();
  if (bias && !isF32(bias, [b.shape[layout === "NT" ? 0 : 1]])) {
    throw new TypeError(`${name}: ${bias.name} ${bias.dtype} [${bias.shape}] is no bias of it.`);
  }
  if (residual && !(isF32(residual, c.shape) && n === c.shape[1])) {
    const { name: of, dtype, shape } = residual;
    throw new TypeError(`${name}: ${of} ${dtype} [${shape}] is no residual of all of C [${c.shape}].`);
  }
  if ([gate, residual, accumulate || undefined].filter((way) => way !== undefined).length > 1) {
    throw new TypeError(`${name}: only one of gate, residual and accumulate can say what becomes of C.`);
  }
}
