/** Filters that make a text. */
import { type Builtin, builtin } from "./_builtin.ts";
import { intArgument, textArgument, textOrNone } from "./arguments.ts";
import { chargeSearch, chargeText, step } from "./budget.ts";
import { getterOf } from "./access.ts";
import { isIterable, iterate, len } from "./compare.ts";
import { fail, UnsupportedError } from "./errors.ts";
import { escapeHtml, quoteUrl, stripTags } from "./html.ts";
import { type JsonStyle, toJson } from "./json.ts";
import { percentFormat } from "./percent_format.ts";
import { str } from "./print.ts";
import { capitalize, lower, upper } from "./casing.ts";
import { center, replace } from "./str_methods.ts";
import { lengthOf, slicePoints, SPACE, splitLines, strip } from "./text.ts";
import { Dict, Markup, textOf, truth, Tuple, Undefined, type Value } from "./values.ts";
import { wrap } from "./wrap.ts";

/** What Python's own methods make of a text: of escaped text, escaped text. */
const made = (value: Value, text: string): Value => value instanceof Markup ? new Markup(text) : text;

/** A filter of a text that is a method of Python's. */
const text = (name: string, work: (text: string) => string) =>
  builtin(name, [], (value) => made(value, work(str(value))));

const escaped = (value: Value): Value => value instanceof Markup ? value : new Markup(escapeHtml(str(value)));

const WORD_START = new RegExp(`([-({[<]|${SPACE})+`, "g");

export const TEXT_FILTERS: readonly [string, Builtin][] = [
  text("upper", upper),
  text("lower", lower),
  text("capitalize", capitalize),
  builtin("title", [], (value) => title(str(value))),
  builtin("string", [], (value) => value instanceof Markup ? value : str(value)),
  builtin("trim", [["chars", null]], (value, characters) => {
    const given = str(value);
    chargeSearch(given.length);
    return made(value, strip(given, textOrNone(characters!), "both"));
  }),
  builtin("center", [["width", 80]], (value, width) => made(value, center(str(value), intArgument(width!)))),
  builtin(
    "replace",
    ["old", "new", ["count", null]],
    (value, old, by, count) =>
      replace(str(value), str(old!), str(by!), count === null ? -1 : intArgument(count!)),
  ),
  builtin("wordcount", [], (value) => {
    chargeText(str(value).length);
    return str(value).match(/[\p{L}\p{N}_]+/gu)?.length ?? 0;
  }),
  builtin("indent", [["width", 4], ["first", false], ["blank", false]], (value, width, first, blank) => {
    const indention = textOf(width!) ?? " ".repeat(checked(intArgument(width!)));
    return made(value, indent(textArgument(value), indention, truth(first!), truth(blank!)));
  }),
  builtin(
    "truncate",
    [["length", 255], ["killwords", false], ["end", "..."], ["leeway", null]],
    (value, ...options) => {
      const [length, leeway] = [intArgument(options[0]!), options[3] === null ? 5 : intArgument(options[3]!)];
      const end = textArgument(options[2]!);
      // what is no text and short enough stays what it is
      if (
        textOf(value) === null && length >= lengthOf(end) && leeway >= 0 && len(value) <= length + leeway
      ) return value;
      const shown = value instanceof Markup && !(options[2] instanceof Markup) ? escapeHtml(end) : end;
      return made(value, truncate(textArgument(value), length, truth(options[1]!), end, leeway, shown));
    },
  ),
  builtin(
    "wordwrap",
    [["width", 79], ["break_long_words", true], ["wrapstring", null], ["break_on_hyphens", true]],
    (value, width, long, joint, hyphens) => {
      const options = {
        width: intArgument(width!),
        breakLongWords: truth(long!),
        breakOnHyphens: truth(hyphens!),
      };
      const separator = textOrNone(joint!) ?? "\n";
      const lines = splitLines(textArgument(value)).map((line) => {
        const wrapped = wrap(line, options);
        chargeText(wrapped.length * separator.length);
        return wrapped.join(separator);
      });
      chargeText(lines.length * separator.length);
      return lines.join(separator);
    },
  ),
  builtin("join", [["d", ""], ["attribute", null]], (value, separator, attribute) => {
    const get = getterOf(attribute!);
    const joint = str(separator!);
    let result = "";
    let first = true;
    for (const item of iterate(value)) {
      step();
      const part = str(get(item));
      chargeText(part.length + joint.length);
      result += first ? part : joint + part;
      first = false;
    }
    return result;
  }),
  ["format", (value, args, keywords) => {
    if (args.length > 0 && keywords.size > 0) {
      fail("can't handle positional and keyword arguments at the same time");
    }
    if (value instanceof Markup) throw new UnsupportedError("the filter format on escaped text");
    return percentFormat(str(value), keywords.size > 0 ? new Dict(keywords) : new Tuple(args));
  }],
  builtin(
    "tojson",
    [["ensure_ascii", false], ["indent", null], ["separators", null], ["sort_keys", false]],
    (value, ascii, indention, separators, sortKeys) =>
      toJson(value, jsonStyle(ascii!, indention!, separators!, sortKeys!)),
  ),
  builtin("escape", [], escaped),
  builtin("e", [], escaped),
  builtin("forceescape", [], (value) => new Markup(escapeHtml(str(value)))),
  builtin("safe", [], (value) => new Markup(str(value))),
  builtin("striptags", [], (value) => stripTags(str(value))),
  builtin("urlencode", [], urlEncode),
  builtin("xmlattr", [["autospace", true]], (value, space) => {
    if (!(value instanceof Dict)) return fail("xmlattr wants a dict");
    let result = "";
    for (const [key, entry] of value.entries()) {
      if (entry === null || entry instanceof Undefined) continue;
      if (/[ \t\n\r\f\v/>=]/.test(textArgument(key))) {
        fail(`Invalid character in attribute name: '${str(key)}'`);
      }
      const text = entry instanceof Markup ? entry.text : escapeHtml(str(entry));
      result += `${result && " "}${escapeHtml(str(key))}="${text}"`;
    }
    return truth(space!) && result !== "" ? ` ${result}` : result;
  }),
];

function checked(width: number): number {
  chargeText(Math.max(0, width));
  return Math.max(0, width);
}

function title(given: string): string {
  chargeText(given.length * 2);
  let result = "";
  let last = 0;
  const word = (part: string) => {
    const [first = ""] = part;
    result += first.toUpperCase() + part.slice(first.length).toLowerCase();
  };
  for (const start of given.matchAll(WORD_START)) {
    word(given.slice(last, start.index));
    word(start[0]);
    last = start.index + start[0].length;
  }
  word(given.slice(last));
  return result;
}

function indent(given: string, indention: string, first: boolean, blank: boolean): string {
  const lines = splitLines(`${given}\n`);
  const indented = lines.map((line, i) => {
    if (i === 0 || line === "" && !blank) return line;
    chargeText(indention.length + line.length);
    return indention + line;
  });
  return (first ? indention : "") + indented.join("\n");
}

/** @param shown the end as it is written, which what is escaped has escaped */
function truncate(
  given: string,
  length: number,
  killWords: boolean,
  end: string,
  leeway: number,
  shown: string,
): string {
  const room = length - lengthOf(end);
  if (room < 0) fail(`expected length >= ${lengthOf(end)}, got ${length}`);
  if (leeway < 0) fail(`expected leeway >= 0, got ${leeway}`);
  if (lengthOf(given) <= length + leeway) return given;
  const cut = slicePoints(given, 0, room);
  const space = cut.lastIndexOf(" ");
  return (killWords || space === -1 ? cut : cut.slice(0, space)) + shown;
}

function urlEncode(value: Value): Value {
  if (textOf(value) !== null || !isIterable(value)) return quoteUrl(str(value), false);
  const pairs: string[] = [];
  for (const pair of value instanceof Dict ? value.entries() : iterate(value)) {
    const [key, entry, ...more] = Array.isArray(pair) ? pair : [...iterate(pair as Value)];
    if (entry === undefined || more.length > 0) fail("urlencode wants pairs");
    step();
    pairs.push(`${quoteUrl(str(key), true)}=${quoteUrl(str(entry), true)}`);
  }
  return pairs.join("&");
}

function jsonStyle(ascii: Value, indention: Value, separators: Value, sortKeys: Value): JsonStyle {
  const indent = indention === null ? null : textOf(indention) ?? " ".repeat(checked(intArgument(indention)));
  const own = [indent === null ? ", " : ",", ": "] as const;
  const given = separators === null ? own : [...iterate(separators)].map(textArgument);
  if (given.length !== 2) fail("separators must be two texts");
  return { ascii: truth(ascii), indent, separators: [given[0]!, given[1]!], sortKeys: truth(sortKeys) };
}
