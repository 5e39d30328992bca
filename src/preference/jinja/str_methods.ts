/** Methods of texts. */
import { type Builtin, builtin } from "./_builtin.ts";
import { intArgument, type Parameter, textArgument, textOrNone } from "./arguments.ts";
import { chargeList, chargeSearch, chargeText, step } from "./budget.ts";
import { capitalize, casefold, isLower, isTitle, isUpper, lower, swapcase, title, upper } from "./casing.ts";
import { iterate } from "./compare.ts";
import { fail } from "./errors.ts";
import { pad } from "./format_spec.ts";
import { isPrintable } from "./print.ts";
import { strFormat } from "./str_format.ts";
import { isSpace, lengthOf, pointIndex, pointsOf, splitLines, splitWords, strip, unitIndex } from "./text.ts";
import { Dict, textOf, Tuple, typeName, type Value } from "./values.ts";

const method = builtin<string>;

/** A test that a text with at least one character passes where all of them do. */
function all(name: string, pattern: () => RegExp): [string, Builtin] {
  return method(name, [], (self) => {
    chargeSearch(self.length);
    return pattern().test(self);
  });
}

/** `str.replace(old, new, count)`. @param count negative: all */
export function replace(text: string, old: string, by: string, count: number): string {
  chargeSearch(text.length);
  if (count < 0) count = Infinity;
  if (old === "") {
    const points = pointsOf(text);
    let result = count > 0 ? by : "";
    points.forEach((point, i) => {
      chargeText(point.length + by.length);
      result += point + (i + 1 < count ? by : "");
    });
    return result;
  }
  let result = "";
  let last = 0;
  for (let at = text.indexOf(old); at !== -1 && count > 0; at = text.indexOf(old, last)) {
    chargeText(at - last + by.length);
    step();
    result += text.slice(last, at) + by;
    last = at + old.length;
    count--;
  }
  chargeText(text.length - last);
  return result + text.slice(last);
}

function split(text: string, separator: string | null, most: number, fromRight: boolean): string[] {
  if (most < 0) most = Infinity;
  if (separator === null) return splitWords(text, most, fromRight);
  if (separator === "") fail("empty separator");
  chargeText(text.length);
  const parts: string[] = [];
  if (fromRight) {
    let end = text.length;
    while (parts.length < most) {
      const at = end === 0 ? -1 : text.lastIndexOf(separator, end - separator.length);
      if (at === -1 || end < separator.length) break;
      chargeList(1);
      parts.push(text.slice(at + separator.length, end));
      end = at;
    }
    parts.push(text.slice(0, end));
    return parts.reverse();
  }
  let start = 0;
  while (parts.length < most) {
    const at = text.indexOf(separator, start);
    if (at === -1) break;
    chargeList(1);
    parts.push(text.slice(start, at));
    start = at + separator.length;
  }
  parts.push(text.slice(start));
  return parts;
}

/** The part of a text that `start` and `end` leave to search in, with its place. */
function window(text: string, start: Value, end: Value): { from: number; to: number; part: string } | null {
  const size = lengthOf(text);
  const bound = (value: Value, otherwise: number) => {
    if (value === null) return otherwise;
    const index = intArgument(value);
    return index < 0 ? Math.max(0, index + size) : index;
  };
  const from = bound(start, 0);
  const to = Math.min(size, bound(end, size));
  if (from > to) return null;
  const [first, last] = [unitIndex(text, from), unitIndex(text, to)];
  return {
    from: first,
    to: last,
    part: first === 0 && last === text.length ? text : text.slice(first, last),
  };
}

const RANGE: readonly Parameter[] = [["", null], ["", null]];

function find(name: string, last: boolean, strict: boolean): [string, Builtin] {
  return method(name, ["", ...RANGE], (self, wanted, start, end) => {
    const part = textArgument(wanted!);
    chargeSearch(self.length);
    const searched = window(self, start!, end!);
    const at = searched === null ? -1 : last ? searched.part.lastIndexOf(part) : searched.part.indexOf(part);
    if (at !== -1) return pointIndex(self, searched!.from + at);
    return strict ? fail("substring not found") : -1;
  });
}

function affix(name: string, matches: (text: string, part: string) => boolean): [string, Builtin] {
  return method(name, ["", ...RANGE], (self, wanted, start, end) => {
    const parts = wanted instanceof Tuple ? wanted.items : [wanted!];
    const searched = window(self, start!, end!);
    return parts.map(textArgument).some((part) => {
      step();
      return searched !== null && matches(searched.part, part);
    });
  });
}

function stripping(name: string, sides: "both" | "left" | "right"): [string, Builtin] {
  return method(name, [["", null]], (self, characters) => {
    chargeSearch(self.length);
    return strip(self, textOrNone(characters!), sides);
  });
}

function partition(name: string, last: boolean): [string, Builtin] {
  return method(name, [""], (self, wanted) => {
    const separator = textArgument(wanted!);
    if (separator === "") fail("empty separator");
    chargeText(self.length);
    const at = last ? self.lastIndexOf(separator) : self.indexOf(separator);
    if (at === -1) return new Tuple(last ? ["", "", self] : [self, "", ""]);
    return new Tuple([self.slice(0, at), separator, self.slice(at + separator.length)]);
  });
}

function justify(name: string, align: "<" | ">" | "^"): [string, Builtin] {
  return method(name, ["", ["", " "]], (self, width, fill) => {
    const character = textArgument(fill!);
    if (lengthOf(character) !== 1) fail("The fill character must be exactly one character long");
    return align === "^"
      ? center(self, intArgument(width!), character)
      : pad(self, intArgument(width!), character, align);
  });
}

/** `str.center`, which puts the odd one to the left where the width is odd. */
export function center(text: string, width: number, fill = " "): string {
  const missing = width - lengthOf(text);
  if (missing <= 0) return text;
  chargeText(missing + text.length);
  const left = Math.floor(missing / 2) + (missing & width & 1);
  return fill.repeat(left) + text + fill.repeat(missing - left);
}

function join(separator: string, items: Value): string {
  let result = "";
  let first = true;
  for (const item of iterate(items)) {
    const part = textOf(item) ?? fail(`sequence item: expected str instance, ${typeName(item)} found`);
    chargeText(part.length + separator.length);
    step();
    result += first ? part : separator + part;
    first = false;
  }
  return result;
}

export const STR_METHODS: ReadonlyMap<string, Builtin> = new Map([
  method("upper", [], upper),
  method("lower", [], lower),
  method("casefold", [], casefold),
  method("capitalize", [], capitalize),
  method("title", [], title),
  method("swapcase", [], swapcase),
  stripping("strip", "both"),
  stripping("lstrip", "left"),
  stripping("rstrip", "right"),
  method(
    "split",
    [["sep", null], ["maxsplit", -1]],
    (self, separator, most) => split(self, textOrNone(separator!), intArgument(most!), false),
  ),
  method(
    "rsplit",
    [["sep", null], ["maxsplit", -1]],
    (self, separator, most) => split(self, textOrNone(separator!), intArgument(most!), true),
  ),
  method(
    "splitlines",
    [["keepends", false]],
    (self, keepEnds) => splitLines(self, intArgument(keepEnds!) !== 0),
  ),
  method(
    "replace",
    ["", "", ["", -1]],
    (self, old, by, count) => replace(self, textArgument(old!), textArgument(by!), intArgument(count!)),
  ),
  method("join", [""], (self, items) => join(self, items!)),
  affix("startswith", (text, part) => text.startsWith(part)),
  affix("endswith", (text, part) => text.endsWith(part)),
  find("find", false, false),
  find("rfind", true, false),
  find("index", false, true),
  find("rindex", true, true),
  method("count", ["", ...RANGE], (self, wanted, start, end) => {
    const part = textArgument(wanted!);
    const searched = window(self, start!, end!);
    chargeSearch(self.length);
    if (searched === null) return 0;
    if (part === "") return lengthOf(searched.part) + 1;
    let count = 0;
    for (
      let at = searched.part.indexOf(part);
      at !== -1;
      at = searched.part.indexOf(part, at + part.length)
    ) count++;
    return count;
  }),
  partition("partition", false),
  partition("rpartition", true),
  method("removeprefix", [""], (self, wanted) => {
    const part = textArgument(wanted!);
    return self.startsWith(part) ? self.slice(part.length) : self;
  }),
  method("removesuffix", [""], (self, wanted) => {
    const part = textArgument(wanted!);
    return part !== "" && self.endsWith(part) ? self.slice(0, -part.length) : self;
  }),
  justify("ljust", "<"),
  justify("rjust", ">"),
  justify("center", "^"),
  method("zfill", [""], (self, width) => {
    const [, sign, rest] = /^([+-]?)([^]*)$/.exec(self)!;
    return sign + pad(rest!, intArgument(width!) - sign!.length, "0", ">");
  }),
  method("expandtabs", [["tabsize", 8]], (self, size) => expandTabs(self, intArgument(size!))),
  ["format", (self, args, keywords) => strFormat(self as string, args, keywords)],
  method("format_map", [""], (self, values) => {
    if (!(values instanceof Dict)) return fail("format_map() wants a dict");
    const keywords = new Map([...values.entries()].map(([key, value]) => [textArgument(key), value]));
    return strFormat(self, [], keywords);
  }),
  all("isalnum", () => /^[\p{L}\p{N}]+$/u),
  all("isalpha", () => /^\p{L}+$/u),
  all("isdecimal", () => /^\p{Nd}+$/u),
  all(
    "isdigit",
    () =>
      /^[\p{Nd}\u00b2\u00b3\u00b9\u1369-\u1371\u19da\u2070\u2074-\u2079\u2080-\u2089\u2460-\u2468\u2474-\u247c\u2488-\u2490\u24ea\u24f5-\u24fd\u24ff\u2776-\u277e\u2780-\u2788\u278a-\u2792\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}\u{1f100}-\u{1f10a}]+$/u,
  ),
  all(
    "isnumeric",
    () =>
      /^[\p{N}\u3405\u3483\u382a\u3b4d\u4e00\u4e03\u4e07\u4e09\u4e5d\u4e8c\u4e94\u4e96\u4ebf-\u4ec0\u4edf\u4ee8\u4f0d\u4f70\u5104\u5146\u5169\u516b\u516d\u5341-\u5345\u534c\u53c1-\u53c4\u56db\u58f1\u58f9\u5e7a\u5efe-\u5eff\u5f0c-\u5f0e\u5f10\u62fe\u634c\u67d2\u6f06\u7396\u767e\u8086\u842c\u8cae\u8cb3\u8d30\u9621\u9646\u964c\u9678\u96f6\uf96b\uf973\uf978\uf9b2\uf9d1\uf9d3\uf9fd\u{20001}\u{20064}\u{200e2}\u{20121}\u{2092a}\u{20983}\u{2098c}\u{2099c}\u{20aea}\u{20afd}\u{20b19}\u{22390}\u{22998}\u{23b1b}\u{2626d}\u{2f890}]+$/u,
  ),
  method("isascii", [], (self) => {
    chargeSearch(self.length);
    return !/[^\p{ASCII}]/u.test(self);
  }),
  method("isspace", [], (self) => {
    chargeSearch(self.length);
    return self !== "" && Array.from(self).every(isSpace);
  }),
  method("isprintable", [], (self) => {
    chargeSearch(self.length);
    return isPrintable(self);
  }),
  method("isupper", [], isUpper),
  method("islower", [], isLower),
  method("istitle", [], isTitle),
  all("isidentifier", () => /^[\p{XID_Start}_]\p{XID_Continue}*$/u),
]);

function expandTabs(text: string, size: number): string {
  let result = "";
  let column = 0;
  for (const character of pointsOf(text)) {
    if (character === "\t") {
      const spaces = size > 0 ? size - column % size : 0;
      chargeText(spaces);
      result += " ".repeat(spaces);
      column += spaces;
      continue;
    }
    result += character;
    column = character === "\n" || character === "\r" ? 0 : column + 1;
  }
  return result;
}
