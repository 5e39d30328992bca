/** What Jinja2's filters for HTML do to a text. */
import { chargeText } from "./budget.ts";
import { UnsupportedError } from "./errors.ts";
import { splitWords } from "./text.ts";

export function escapeHtml(text: string): string {
  chargeText(text.length);
  const escaped = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll("'", "&#39;").replaceAll('"', "&#34;");
  chargeText(escaped.length);
  return escaped;
}

const UNESCAPED: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\xa0",
};

/** A text without tags and comments, its white space made single spaces. @throws {UnsupportedError} for rarer entities */
export function stripTags(text: string): string {
  chargeText(text.length * 2);
  let result = "";
  let at = 0;
  for (let start = text.indexOf("<"); start !== -1; start = text.indexOf("<", at)) {
    const close = text.startsWith("<!--", start) ? "-->" : ">";
    const end = text.indexOf(close, start + (close === ">" ? 0 : 4));
    if (end === -1) break;
    result += text.slice(at, start);
    at = end + close.length;
  }
  result += text.slice(at);
  return splitWords(result, Infinity).join(" ").replace(
    /&(#?)([\p{L}\p{N}]+)(;?)/gu,
    (whole, hash, name, end) => {
      const character = hash === "" ? UNESCAPED[name] : undefined;
      if (character !== undefined && end === ";") return character;
      if (hash === "#" && end === ";" && /^(?:\d{1,6}|[xX][\da-fA-F]{1,5})$/.test(name)) {
        const code = /^[xX]/.test(name) ? parseInt(name.slice(1), 16) : Number(name);
        if (code >= 0xa0 || code >= 0x20 && code < 0x7f) return String.fromCodePoint(code);
      }
      throw new UnsupportedError(`the HTML entity ${whole}`);
    },
  );
}

const UNRESERVED = /[A-Za-z0-9_.~-]/;

/** A text for a URL. @param query whether a slash is quoted and a space is a plus */
export function quoteUrl(text: string, query: boolean): string {
  chargeText(text.length * 3);
  return text.replace(/[^]/gu, (character) => {
    if (UNRESERVED.test(character) || character === "/" && !query) return character;
    if (character === " " && query) return "+";
    return encodeURIComponent(character).replace(
      /^[^%]$/,
      (plain) => `%${plain.charCodeAt(0).toString(16).toUpperCase()}`,
    );
  });
}
