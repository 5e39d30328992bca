/** GPT-2's spelling of bytes: printable Latin-1 characters stand for themselves, the others for U+0100 and on, in order. */
const CHARACTERS: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
})();

const BYTES: ReadonlyMap<string, number> = new Map(CHARACTERS.map((character, byte) => [character, byte]));

const encoder = new TextEncoder();

/** The bytes of a text's UTF-8, a character each. */
export function spellBytes(text: string): string {
  let spelled = "";
  for (const byte of encoder.encode(text)) spelled += CHARACTERS[byte]!;
  return spelled;
}

/** The bytes that a text spells; its own UTF-8 where one of its characters spells none. */
export function spelledBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const byte = BYTES.get(text[i]!);
    if (byte === undefined) return encoder.encode(text);
    bytes[i] = byte;
  }
  return bytes;
}
