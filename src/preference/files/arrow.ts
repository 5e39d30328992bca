/** Rows of an Arrow file, as `datasets` saves them, a record batch at a time. */
import { type Batch, type Table, tableFromIPC } from "@uwdata/flechette";
import { readArrowMessages } from "./arrow_messages.ts";
import { plainRow } from "./plain.ts";
import { type ChooseColumns, type FileRow, unreadable } from "./source_row.ts";

/** Whole numbers of 64 bits that no number holds must not be an error. */
const OPTIONS = { useBigInt: true, useDate: true };

/**
 * Streams an Arrow file's rows. Columns that are not chosen are not decoded.
 *
 * @throws {InputError} naming the file where it is missing, malformed or compressed
 */
export async function* readArrow(path: string, choose: ChooseColumns): AsyncGenerator<FileRow> {
  const before: Uint8Array[] = [];
  let columns: string[] = [];
  let row = 0;
  for await (const { kind, bytes } of readArrowMessages(path)) {
    const table = readable(() => tableFromIPC([...before, bytes], OPTIONS));
    if (kind === "schema") columns = [...choose(namesOf(table))];
    if (kind !== "batch") {
      before.push(bytes);
      continue;
    }
    const chosen = readable(() => checked(table.select(columns), table.numRows, bytes.length));
    const values = columns.length === 0 ? Array.from({ length: table.numRows }, () => ({})) : null;
    for (const value of values ?? readable(() => chosen.toArray())) {
      yield { row: ++row, value: plainRow(value) };
    }
  }
  if (before.length === 0) throw unreadable("Arrow", "it has no schema");
}

/** A batch's table, whose lengths and offsets must be inside it: damaged ones would fill the memory. */
function checked(table: Table, rows: number, bytes: number): Table {
  const most = 8 * bytes;
  const check = (batch: Batch<unknown>) => {
    const { length, offsets, children = [] } = batch as Batch<unknown> & {
      offsets?: ArrayLike<number | bigint>;
      children?: Batch<unknown>[];
    };
    if (length > most) throw new RangeError("a batch is damaged");
    for (let i = 0; offsets && i < length && children.length > 0; i++) {
      const [from, to] = [Number(offsets[i]), Number(offsets[i + 1])];
      if (!(from >= 0 && from <= to && to <= children[0]!.length)) throw new RangeError("a list is damaged");
    }
    children.forEach(check);
  };
  if (rows > most) throw new RangeError("a batch is damaged");
  for (const { data } of table.children) data.forEach(check);
  return table;
}

function namesOf(table: Table): string[] {
  return table.schema.fields.map(({ name }) => name);
}

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw unreadable("Arrow", (error as Error).message);
  }
}
