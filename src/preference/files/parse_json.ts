/** One value of JSON from bytes. */
import { isDeeper, mostRowDepth } from "../../json.ts";
import type { FileRow } from "./source_row.ts";

/** Stands for a NaN until it is parsed; no user's text holds it. */
const NAN = `nan-${crypto.randomUUID()}`;

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** A row's value, or why there is none; null where the bytes are nothing but white space. */
export function parseJson(bytes: Uint8Array): Omit<FileRow, "row"> | null {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    return { problem: "is not UTF-8" };
  }
  if (text.trim() === "") return null;
  try {
    const value = parse(text);
    return isDeeper(value, mostRowDepth)
      ? { problem: `is nested deeper than ${mostRowDepth} levels` }
      : { value };
  } catch (error) {
    return { problem: `is not JSON: ${(error as Error).message}` };
  }
}

/** JSON with the NaN, Infinity and -Infinity that Python writes. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!/NaN|Infinity/.test(text)) throw error;
    // 1e999 is Infinity to JSON.
    const plain = outsideStrings(
      text,
      (part) => part.replaceAll("NaN", JSON.stringify(NAN)).replaceAll("Infinity", "1e999"),
    );
    const value = JSON.parse(plain);
    // A reviver is called by one that calls itself, and deep values are refused in any case.
    return isDeeper(value, mostRowDepth)
      ? value
      : JSON.parse(plain, (_, value) => value === NAN ? NaN : value);
  }
}

/** A JSON text with its parts between the strings changed. */
function outsideStrings(text: string, change: (part: string) => string): string {
  const parts: string[] = [];
  for (let at = 0; at < text.length;) {
    const quote = text.indexOf('"', at);
    if (quote < 0) {
      parts.push(change(text.slice(at)));
      break;
    }
    let end = text.indexOf('"', quote + 1);
    while (end >= 0 && isEscaped(text, end)) end = text.indexOf('"', end + 1);
    end = end < 0 ? text.length : end + 1;
    parts.push(change(text.slice(at, quote)), text.slice(quote, end));
    at = end;
  }
  return parts.join("");
}

/** Whether an odd number of backslashes stands in front. */
function isEscaped(text: string, at: number): boolean {
  let from = at;
  while (text[from - 1] === "\\") from--;
  return (at - from) % 2 === 1;
}
