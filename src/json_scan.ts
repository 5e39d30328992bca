/** Looks at JSON that others wrote before anything is built from it. */

/** How deep a request's body may be nested. */
export const mostBodyDepth = 128;
/** How many values, those in lists and objects too, a request's body may hold: of each some bytes are kept. */
export const mostBodyValues = 2_000_000;
/** How many of them may be objects and lists, which take the most. */
export const mostBodyBrackets = 400_000;
/** How many fields an object in a request's body may have: the names of each are looked up one by one. */
export const mostBodyFields = 1000;

/** How many fields all of them may have together: each takes far more than a value in a list. */
export const mostBodyAllFields = 600_000;

/** How many different names fields may have in a request's body: each is kept in a table of all names. */
export const mostBodyNames = 20_000;

/** Of what a JSON text may hold so much. */
export interface JsonBounds {
  readonly depth: number;
  readonly values: number;
  readonly brackets: number;
  /** Of one object. */
  readonly fields: number;
  readonly allFields: number;
  readonly names: number;
}

const BODY: JsonBounds = {
  depth: mostBodyDepth,
  values: mostBodyValues,
  brackets: mostBodyBrackets,
  fields: mostBodyFields,
  allFields: mostBodyAllFields,
  names: mostBodyNames,
};

const COLON = 0x3a, QUOTE = 0x22, BACKSLASH = 0x5c, COMMA = 0x2c;

/**
 * Why a text is not to be parsed, to be put behind its name; null where it is within bounds. It may still be no JSON.
 *
 * @param bytes UTF-8
 * @param most those of a request's body unless given
 */
export function excessOf(bytes: Uint8Array, most = BODY): string | null {
  let depth = 0;
  let values = 1;
  let brackets = 0;
  let allFields = 0;
  const names = new Names();
  // Of each open bracket: fields so far; of a list that it is one.
  const fields = new Float64Array(most.depth + 1).fill(-Infinity);
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case QUOTE: {
        const end = endOfString(bytes, at);
        if (isName(bytes, end) && names.add(bytes.subarray(at, end)) > most.names) {
          return `holds fields of more than ${most.names} names`;
        }
        at = end;
        break;
      }
      case 0x5b:
      case 0x7b:
        values++;
        if (++brackets > most.brackets) return `holds more than ${most.brackets} objects and lists`;
        if (++depth > most.depth) return `is nested more than ${most.depth} deep`;
        fields[depth] = bytes[at] === 0x7b ? 1 : -Infinity;
        if (bytes[at] === 0x7b) allFields++;
        break;
      case 0x5d:
      case 0x7d:
        depth--;
        break;
      case COMMA:
        if (++values > most.values) return `holds more than ${most.values} values`;
        if (!(fields[depth]! > 0)) break; // it is in a list
        if (++fields[depth]! > most.fields) return `holds an object of more than ${most.fields} fields`;
        if (++allFields > most.allFields) return `holds more than ${most.allFields} fields in all`;
    }
  }
  return null;
}

/** Whether what ends here is a field's name. */
function isName(bytes: Uint8Array, end: number): boolean {
  let next = end + 1;
  while (next < bytes.length && bytes[next]! <= 0x20) next++;
  return bytes[next] === COLON;
}

/** Counts different names, or a few less. */
class Names {
  readonly #seen = new Set<number>();

  /** @returns how many there are */
  add(name: Uint8Array): number {
    let hash = 0x811c9dc5; // FNV-1a
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name[i]!, 0x01000193);
    this.#seen.add(hash);
    return this.#seen.size;
  }
}

/** Where a text that begins with a quote ends: its other quote, or the end of all. */
function endOfString(bytes: Uint8Array, start: number): number {
  let at = start + 1;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}
