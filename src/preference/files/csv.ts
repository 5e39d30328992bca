/** Rows of comma- or tab-separated text. */
import { type CastingContext, CsvError, type InfoRecord, parse } from "csv-parse";
import { Readable } from "node:stream";
import { InputError } from "../../errors.ts";
import { readBytes } from "./bytes.ts";
import { type ChooseColumns, type FileRow, MOST_ROW_BYTES } from "./source_row.ts";

/**
 * Streams the rows behind a header. Every value is text; a field with nothing in it, not even quotes, is null.
 *
 * @throws {InputError} where the file is missing, its header names a column twice, or a quote is never closed
 */
export async function* readCsv(
  path: string,
  delimiter: "," | "\t",
  choose: ChooseColumns,
): AsyncGenerator<FileRow> {
  let names: readonly string[] | null = null;
  let chosen: ReadonlySet<string> = new Set();
  let row = 0;
  for await (const { fields, isUtf8 } of readRecords(path, delimiter)) {
    if (names === null) {
      names = header(fields);
      chosen = new Set(choose(names));
      continue;
    }
    row++;
    if (fields.length !== names.length) {
      const problem = `has ${fields.length} fields, and the header has ${names.length}`;
      yield { row, problem };
      continue;
    }
    if (!isUtf8 && fields.some((field) => field?.includes("\ufffd"))) {
      yield { row, problem: "is not UTF-8" };
      continue;
    }
    const entries = names.map((name, i) => [name, fields[i]] as const);
    yield { row, value: Object.fromEntries(entries.filter(([name]) => chosen.has(name))) };
  }
}

type Field = string | null;

/** Columns of a table, of which each row is an object. */
const MOST_COLUMNS = 10_000;

/** A column without a name, as pandas writes its index, has its number for one. */
function header(fields: readonly Field[]): readonly string[] {
  if (fields.length > MOST_COLUMNS) {
    throw new InputError((file) => `${file} has a header of ${fields.length} columns.`, {
      accepted: `at most ${MOST_COLUMNS} columns`,
    });
  }
  const names = fields.map((name, i) => name || `Unnamed: ${i}`);
  const seen = new Set<string>();
  const twice = names.find((name) => seen.size === seen.add(name).size);
  if (twice === undefined) return names;
  throw new InputError((file) => `${file} has two columns ${JSON.stringify(twice)}.`, {
    value: names,
    accepted: "a header whose names differ",
  });
}

/** Records of fields. `isUtf8`: whether the text is so as far as it has been read. */
async function* readRecords(
  path: string,
  delimiter: string,
): AsyncGenerator<{ fields: Field[]; isUtf8: boolean }> {
  let isUtf8 = true;
  const utf8 = new TextDecoder("utf-8", { fatal: true });
  async function* watched() {
    for await (const chunk of readBytes(path)) {
      try {
        if (isUtf8) utf8.decode(chunk, { stream: true });
      } catch {
        isUtf8 = false;
      }
      yield chunk;
    }
  }
  let last = 0;
  const text = Readable.from(watched());
  const records = parse({
    bom: true,
    cast: (value: string, { quoting }: CastingContext): unknown => value === "" && !quoting ? null : value,
    delimiter,
    on_record: (record: string[], { lines }: InfoRecord) => {
      last = lines;
      return record;
    },
    max_record_size: MOST_ROW_BYTES,
    record_delimiter: ["\r\n", "\n", "\r"],
    relax_column_count: true,
    // As pandas: a quote inside a field that does not begin with one is a quote.
    relax_quotes: true,
    skip_empty_lines: true,
  });
  text.on("error", (error) => records.destroy(error));
  try {
    for await (const fields of text.pipe(records)) {
      yield { fields, isUtf8 };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new InputError((file) => `${file} has a quote after line ${last} that is not closed.`, {
      accepted: 'fields in quotes that end in one, with "" for a quote inside',
    });
  } finally {
    text.destroy();
  }
}
