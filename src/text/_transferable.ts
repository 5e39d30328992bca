/** Tokens on their way between threads: handed over in one buffer, and not copied one by one. */

/** A message whose arrays of tokens lie in one buffer. */
export interface Transferable<T> {
  readonly message: T;
  readonly buffers: ArrayBuffer[];
}

/** Puts the arrays of 32-bit words in a message together. Only plain objects and lists are looked into. */
export function transferable<T>(message: T): Transferable<T> {
  let length = 0;
  walk(message, (words) => {
    length += words.length;
    return words;
  });
  if (length === 0) return { message, buffers: [] };
  const all = new Uint32Array(length);
  let at = 0;
  const moved = walk(message, (words) => {
    all.set(words, at);
    return all.subarray(at, at += words.length);
  });
  return { message: moved as T, buffers: [all.buffer] };
}

/** The value with its arrays replaced; what holds none is the same object. */
function walk(value: unknown, replaced: (words: Uint32Array) => Uint32Array): unknown {
  if (value instanceof Uint32Array) return replaced(value);
  if (Array.isArray(value)) {
    // a list of anything but objects holds no array of words
    return typeof value[0] === "object" ? value.map((one) => walk(one, replaced)) : value;
  }
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) {
    return value;
  }
  const result: Record<string, unknown> = {};
  for (const [name, one] of Object.entries(value)) result[name] = walk(one, replaced);
  return result;
}
