/** `value.name`, `value[key]`, `value[a:b:c]` and `value(…)`, in the sandbox that transformers runs templates in. */
import { intArgument } from "./arguments.ts";
import { chargeList, step as countStep } from "./budget.ts";
import { fail, UnsupportedError } from "./errors.ts";
import { methodOf, UNSAFE, UNSUPPORTED_ATTRIBUTES } from "./methods.ts";
import { repr } from "./print.ts";
import { lengthOf, pointsOf, slicePoints } from "./text.ts";
import {
  Callable,
  Dict,
  Float,
  Instance,
  intOf,
  type Keywords,
  Markup,
  Range,
  textOf,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

/** `value.name`: an attribute, else an item. */
export function attribute(value: Value, name: string): Value {
  return ownAttribute(value, name) ?? ownItem(value, name) ?? missing(value, name);
}

/** `value[key]`: an item, else an attribute where the key is a text. */
export function item(value: Value, key: Value): Value {
  const found = ownItem(value, key);
  if (found !== undefined) return found;
  const name = textOf(key);
  return (name === null ? undefined : ownAttribute(value, name)) ?? missing(value, key);
}

function missing(value: Value, key: Value): Value {
  return new Undefined(`'${typeName(value)} object' has no attribute ${repr(key)}`);
}

/** A name that every object of Python's has. */
const DUNDER =
  /^__(?:class|doc|init|new|repr|str|hash|eq|ne|lt|le|gt|ge|dir|format|reduce|reduce_ex|sizeof|getattribute|setattr|delattr|init_subclass|subclasshook|len|getitem|contains|iter|add|mul|rmul|mod|rmod|getnewargs|reversed|setitem|delitem|iadd|imul|or|ror|ior|class_getitem|call|dict|module|weakref|self|name|qualname|globals|code|closure|defaults|kwdefaults|annotations|next|del|getstate|bool|int|float|abs|neg|pos|and|html)__$/;

/** An attribute; undefined in TypeScript's sense where there is none. @throws {TemplateError} what is undefined has none */
export function ownAttribute(value: Value, name: string): Value | undefined {
  if (value instanceof Undefined) {
    if (DUNDER.test(name)) return unsafe(value, name);
    return fail(value.message);
  }
  if (value instanceof Instance) return value.attribute(name);
  if (DUNDER.test(name)) return unsafe(value, name);
  if (value instanceof Callable) {
    const found = value.attributes.get(name);
    if (found === undefined && !name.startsWith("_") && value.attributes.size === 0) return undefined;
    return found;
  }
  const type = typeName(value);
  if (value instanceof Tuple) {
    const at = value.names.indexOf(name);
    if (at !== -1) return value.items[at];
  }
  if (UNSAFE[type]?.has(name)) return unsafe(value, name);
  const method = methodOf(type, name);
  if (method) return new Callable(`the method ${name}`, (args, keywords) => method(value, args, keywords));
  if (UNSUPPORTED_ATTRIBUTES[type]?.has(name)) throw new UnsupportedError(`${type}.${name}`);
  if (value instanceof Range && (name === "start" || name === "stop" || name === "step")) return value[name];
  if (intOf(value) !== null && (name === "real" || name === "numerator")) return intOf(value)!;
  if (value instanceof Float && name === "real") return value;
  return undefined;
}

function unsafe(value: Value, name: string): Undefined {
  return new Undefined(`access to attribute '${name}' of '${typeName(value)}' object is unsafe.`);
}

/** An item; undefined in TypeScript's sense where there is none. */
function ownItem(value: Value, key: Value): Value | undefined {
  if (value instanceof Dict) return isHashable(key) ? value.get(key) : undefined;
  if (value instanceof Undefined) return fail(value.message);
  const index = intOf(key);
  if (index === null) return undefined;
  if (Array.isArray(value)) return value.at(index);
  if (value instanceof Tuple) return value.items.at(index);
  const text = textOf(value);
  if (text !== null) {
    const length = lengthOf(text);
    const at = index < 0 ? length + index : index;
    return at >= 0 && at < length ? partOf(value, slicePoints(text, at, at + 1)) : undefined;
  }
  if (value instanceof Range) {
    const at = index < 0 ? value.length + index : index;
    return at >= 0 && at < value.length ? value.at(at) : undefined;
  }
  return undefined;
}

/** A part of escaped text is escaped text. */
function partOf(value: Value, text: string): Value {
  return value instanceof Markup ? new Markup(text) : text;
}

function isHashable(key: Value): boolean {
  return !Array.isArray(key) && !(key instanceof Dict) &&
    !(key instanceof Tuple && !key.items.every(isHashable));
}

/** `value[start:stop:step]` of a text, list, tuple or range; parts that are left out are None. */
export function slice(value: Value, start: Value, stop: Value, step: Value): Value {
  if (value instanceof Undefined) fail(value.message);
  const bound = (part: Value): number | null =>
    part === null ? null : intOf(part) ??
      (part instanceof Undefined ? fail(part.message) : fail("slice indices must be integers or None"));
  const text = textOf(value);
  const size = text !== null
    ? lengthOf(text)
    : Array.isArray(value)
    ? value.length
    : value instanceof Tuple
    ? value.items.length
    : value instanceof Range
    ? value.length
    : fail(`'${typeName(value)}' object cannot be sliced`);
  const { from, to, by } = sliceBounds(size, bound(start), bound(stop), bound(step));
  if (text !== null) {
    return partOf(
      value,
      by === 1 ? slicePoints(text, from, to) : every(pointsOf(text), from, to, by).join(""),
    );
  }
  if (Array.isArray(value)) return every(value, from, to, by);
  if (value instanceof Tuple) return new Tuple(every(value.items, from, to, by));
  const range = value as Range;
  return new Range(range.start + from * range.step, range.start + to * range.step, range.step * by);
}

function every<T>(items: readonly T[], from: number, to: number, by: number): T[] {
  chargeList(Math.max(0, Math.ceil((to - from) / by)));
  if (by === 1) return items.slice(from, Math.max(from, to));
  const part: T[] = [];
  for (let at = from; by > 0 ? at < to : at > to; at += by) part.push(items[at]!);
  return part;
}

function sliceBounds(size: number, start: number | null, stop: number | null, step: number | null) {
  const by = step ?? 1;
  if (by === 0) fail("slice step cannot be zero");
  const [lowest, highest] = by > 0 ? [0, size] : [-1, size - 1];
  const clamp = (bound: number) => Math.min(highest, Math.max(lowest, bound < 0 ? bound + size : bound));
  return {
    from: start === null ? (by > 0 ? lowest : highest) : clamp(start),
    to: stop === null ? (by > 0 ? highest : lowest) : clamp(stop),
    by,
  };
}

/** Calls a function, method, macro or recursive loop. */
export function call(callee: Value, args: readonly Value[], keywords: Keywords): Value {
  countStep();
  if (callee instanceof Callable) return callee.call(args, keywords);
  if (callee instanceof Undefined) fail(callee.message);
  const called = callee instanceof Instance ? callee.attribute("__call__") : undefined;
  if (called instanceof Callable) return called.call(args, keywords);
  return fail(`'${typeName(callee)}' object is not callable`);
}

/** An item by a filter's `attribute`: `"a.b.0"`, or an index. */
export function getterOf(path: Value, otherwise: Value = null): (value: Value) => Value {
  const text = path === null ? null : textOf(path);
  const parts: Value[] = path === null
    ? []
    : text === null
    ? [intOf(path) === null ? path : intArgument(path)]
    : text.split(".").map((part) => /^\d+$/.test(part) ? Number(part) : part);
  return (value) => {
    countStep();
    for (const part of parts) {
      value = item(value, part);
      if (otherwise !== null && value instanceof Undefined) value = otherwise;
    }
    return value;
  };
}
