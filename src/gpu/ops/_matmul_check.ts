import type { Live } from "../program.ts";
import { STORAGE } from "../storage.ts";
import type { Product } from "./matmul.ts";

/** @throws {TypeError} where shapes, or how they are told to go together, do not fit the layout */
export function checkMatmul<L extends Live>(product: Product<L>): void {
  const { layout, a, b, c, low_rank, bias, residual, gate, accumulate, n = c.shape[1] } = product;
  const check = (fits: boolean, fault: string) => {
    if (!fits) throw new TypeError(`matmul ${layout} of ${a.name} and ${b.name}: ${fault}.`);
  };
  check(layout !== "TN" || b.dtype === "f32", `B cannot be ${b.dtype}`);
  check(
    [a, b, c].every(({ shape }) => shape.length === 2),
    `shapes must be [rows, columns], not [${a.shape}], [${b.shape}], [${c.shape}]`,
  );
  const { row_multiple } = STORAGE[b.dtype];
  check(
    b.shape[1]! % row_multiple === 0,
    `rows of ${b.dtype} must be a multiple of ${row_multiple} long, not ${b.shape[1]}`,
  );
  const columns = b.shape[layout === "NT" ? 0 : 1]!;
  if (bias) check(bias.shape.join() === `${columns}`, `${bias.name} [${bias.shape}] is no bias of it`);
  if (residual) {
    const fits = residual.shape.join() === c.shape.join() && n === c.shape[1];
    check(fits, `${residual.name} [${residual.shape}] is no residual of all of C [${c.shape}]`);
  }
  check(
    [gate, residual, accumulate || undefined].filter((way) => way !== undefined).length <= 1,
    "only one of gate, residual and accumulate can say what becomes of C",
  );
  if (!low_rank) return;
  const { u, v } = low_rank;
  const [v_columns, r] = layout === "NT" ? v.shape : v.shape.toReversed();
  check(
    layout !== "TN" && u.shape[0]! >= a.shape[0]! && v_columns === columns && r === u.shape[1],
    `${u.name} [${u.shape}] and ${v.name} [${v.shape}] are no low-rank update of it`,
  );
}
