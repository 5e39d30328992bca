/** One turn of a conversation. Keys beyond these two (`name`, `tool_calls`, …) reach the chat template as they are. */
export interface Message {
  readonly role: string;
  readonly content: string;
}

/** Plain text, or turns that the model's chat template turns into text. */
export type Text = string | readonly Message[];

/** One prompt with its responses, before template and tokens. */
export interface Comparison {
  /** Number of the row in its file or list, from 1. */
  readonly row: number;
  /** Shared by all responses; an empty string where there is none. */
  readonly prompt: Text;
  /** A preference row has [chosen, rejected], an sft row [completion], a scoring item its candidates. */
  readonly responses: readonly Text[];
}

/** What a row is for: a chosen and a rejected response, or one completion to imitate. */
export type RowKind = "preference" | "sft";

/** Types a row, see the module's list of shapes. @throws InputError naming the row's number and field */
export function parseRow(_value: unknown, _row: number, _kind: RowKind): Comparison {
  throw new Error("not yet");
}

/** Streams a JSONL file's rows. @throws InputError naming the line's number */
// deno-lint-ignore require-yield
export async function* readJsonl(path: string, _kind: RowKind): AsyncGenerator<Comparison> {
  await Deno.stat(path);
  throw new Error("not yet");
}
