import assert from "node:assert/strict";
import { loadTranslator, onigurumaRegExp, partsOf } from "../../src/preference/tokens/_pattern.ts";
import { random } from "../helpers/random.ts";

const UPPER = "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}";
const LOWER = "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}";
const SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const llama3 = (digits: string) =>
  `${SUFFIX}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const o200k = (suffix: string, digits: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]*[${LOWER}]+${suffix}|[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]+[${LOWER}]*${suffix}|` +
  `\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const PATTERNS = {
  "GPT-2": "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  "Llama 3": llama3("{1,3}"),
  "Qwen": llama3(""),
  "o200k": o200k(`${SUFFIX}?`, "{1,3}"),
  "tekken": o200k("", ""),
};
/** Never matches, and has the translator make the pattern. */
const TRANSLATED = "|(?!)\\z";

Deno.test("onigurumaRegExp() makes of known patterns what the translator makes of them", async () => {
  // before the translator is loaded, so that these are made without it
  const short = Object.entries(PATTERNS).map(([name, source]) =>
    [name, source, onigurumaRegExp(source)] as const
  );
  await loadTranslator([{ Regex: TRANSLATED }]);
  const { integer } = random(7);
  const characters = [
    ..."aZsStTreVEmMlLdD019 \t\n\r\v\f'/.,-_!?",
    ..."\u0085\u00a0\u180e\u200b\u2028\u3000\ufeff\u017f\u212a\u0345\u0301\u01c5\u02b0ªßéİſ٣½²Ⅻ今かカ한ก😀\u{1d400}\u{20000}\u{1f1e9}",
  ];
  const texts = Array.from({ length: 3000 }, () => {
    const length = 1 + integer(16);
    return Array.from({ length }, () => characters[integer(characters.length)]).join("");
  });
  for (const [name, source, pattern] of short) {
    const translated = onigurumaRegExp(source + TRANSLATED);
    assert.notEqual(translated.source, pattern.source);
    for (const text of texts) {
      assert.deepEqual(text.match(pattern), text.match(translated), `${name} ${JSON.stringify(text)}`);
    }
  }
});

Deno.test("onigurumaRegExp() counts Latin-1's numbers as part of a word outside of classes alone, as Oniguruma does", async () => {
  await loadTranslator([{ Regex: TRANSLATED }]);
  // of each character of "²¾a_é٣Ⅻ]" whether it matches, by tokenizers 0.23.3
  const expected = {
    "\\w": "²¾a_é٣Ⅻ",
    "\\W": "]",
    "\\p{Word}": "²¾a_é٣Ⅻ",
    "\\p{^Word}": "]",
    "[\\w]": "a_é٣Ⅻ",
    "[^\\w]": "²¾]",
    "[\\W]": "²¾]",
    "[^\\W]": "a_é٣Ⅻ",
    "[[:word:]]": "a_é٣Ⅻ",
    "[[:^word:]]": "²¾]",
    "[]\\p{Word}]": "a_é٣Ⅻ]",
    "[]a]|\\w": "²¾a_é٣Ⅻ]",
    "[\\]a]|\\w": "²¾a_é٣Ⅻ]",
  };
  for (const [source, found] of Object.entries(expected)) {
    assert.equal("²¾a_é٣Ⅻ]".match(onigurumaRegExp(source))!.join(""), found, source);
  }
  assert.throws(() => onigurumaRegExp("\\X"), /it asks for .*\\X/);
  assert.deepEqual(partsOf("", onigurumaRegExp("^|$")), []);
});
