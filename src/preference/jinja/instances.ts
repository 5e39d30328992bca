/** Objects of Jinja2's own: what `loop`, `namespace()`, `cycler()` and `joiner()` are. */
import { equals, iterate, sizeOf } from "./compare.ts";
import { fail, UnsupportedError } from "./errors.ts";
import { repr } from "./print.ts";
import { Callable, Dict, Instance, type Keywords, Tuple, Undefined, type Value } from "./values.ts";

/** The one thing that a template can change. */
export class Namespace extends Instance {
  override readonly type = "Namespace";
  readonly #fields = new Map<string, Value>();

  override attribute(name: string): Value | undefined {
    return this.#fields.get(name);
  }

  /** @throws {TemplateError} for a name that begins with an underscore, as transformers' namespaces do */
  set(name: string, value: Value): void {
    if (name.startsWith("_")) {
      fail(`Chat templates cannot store underscore-prefixed attributes on a namespace, but got '${name}'.`);
    }
    this.#fields.set(name, value);
  }

  override print(): string {
    return `<Namespace ${repr(new Dict(this.#fields))}>`;
  }
}

/** Where a loop is. */
export class Loop extends Instance {
  override readonly type = "LoopContext";
  #iterator: Iterator<Value>;
  #length: number | null;
  #index0 = -1;
  /** The entry that has been looked at ahead of its turn. */
  #after: { readonly value: Value } | null = null;
  #current: Value | undefined;
  #before: Value | undefined;
  #last: Tuple | null = null;

  /** @param recurse writes the loop's body for other entries, a level deeper; null where the loop is not recursive */
  constructor(
    iterable: Value,
    readonly recurse: ((iterable: Value, depth0: number) => string) | null,
    readonly depth0: number,
  ) {
    super();
    this.#iterator = iterate(iterable)[Symbol.iterator]();
    this.#length = sizeOf(iterable);
  }

  /** Goes on to the next entry. @returns undefined at the end */
  next(): Value | undefined {
    const next = this.#after ?? this.#pull();
    this.#after = null;
    if (next === null) return undefined;
    this.#index0++;
    this.#before = this.#current;
    return this.#current = next.value;
  }

  #pull(): { readonly value: Value } | null {
    const { done, value } = this.#iterator.next();
    return done ? null : { value };
  }

  #peek(): { readonly value: Value } | null {
    return this.#after ??= this.#pull();
  }

  /** Reads all that is left where the length is not known. */
  get #size(): number {
    if (this.#length === null) {
      const rest: Value[] = [];
      for (let next = this.#pull(); next !== null; next = this.#pull()) rest.push(next.value);
      this.#iterator = rest[Symbol.iterator]();
      this.#length = rest.length + this.#index0 + 1 + Number(this.#after !== null);
    }
    return this.#length;
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case "index0":
        return this.#index0;
      case "index":
        return this.#index0 + 1;
      case "length":
        return this.#size;
      case "revindex0":
        return this.#size - this.#index0 - 1;
      case "revindex":
        return this.#size - this.#index0;
      case "first":
        return this.#index0 === 0;
      case "last":
        return this.#peek() === null;
      case "previtem":
        return this.#index0 === 0 ? new Undefined("there is no previous item") : this.#before;
      case "nextitem": {
        const next = this.#peek();
        return next === null ? new Undefined("there is no next item") : next.value;
      }
      case "depth0":
        return this.depth0;
      case "depth":
        return this.depth0 + 1;
      case "cycle":
        return method(
          "cycle",
          (args) =>
            args.length === 0 ? fail("no items for cycling given") : args[this.#index0 % args.length]!,
        );
      case "changed":
        return method("changed", (args) => {
          const value = new Tuple(args);
          if (this.#last !== null && equals(this.#last, value)) return false;
          this.#last = value;
          return true;
        });
      case "__call__":
        return method("loop", ([iterable, ...more]) => {
          if (iterable === undefined || more.length > 0) fail("loop() takes one argument");
          if (this.recurse === null) {
            fail("The loop must have the 'recursive' marker to be called recursively.");
          }
          return this.recurse!(iterable!, this.depth0 + 1);
        });
    }
    return undefined;
  }

  override print(): string {
    return `<LoopContext ${this.#index0 + 1}/${this.#size}>`;
  }
}

/** `cycler(…)`: its items in turn. */
export class Cycler extends Instance {
  override readonly type = "Cycler";
  #at = 0;

  constructor(readonly items: readonly Value[]) {
    super();
    if (items.length === 0) fail("at least one item has to be provided");
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case "items":
        return new Tuple(this.items);
      case "pos":
        return this.#at;
      case "current":
        return this.items[this.#at];
      case "next":
        return method("next", () => {
          const item = this.items[this.#at]!;
          this.#at = (this.#at + 1) % this.items.length;
          return item;
        });
      case "reset":
        return method("reset", () => {
          this.#at = 0;
          return null;
        });
    }
    return undefined;
  }

  override print(): string {
    throw new UnsupportedError("printing a cycler");
  }
}

/** `joiner(separator)`: nothing when it is first called, then the separator. */
export class Joiner extends Instance {
  override readonly type = "Joiner";
  #used = false;

  constructor(readonly separator: Value) {
    super();
  }

  override attribute(name: string): Value | undefined {
    if (name === "sep") return this.separator;
    if (name === "used") return this.#used;
    if (name !== "__call__") return undefined;
    return method("joiner", () => {
      const used = this.#used;
      this.#used = true;
      return used ? this.separator : "";
    });
  }

  override print(): string {
    throw new UnsupportedError("printing a joiner");
  }
}

function method(name: string, work: (args: readonly Value[], keywords: Keywords) => Value): Callable {
  return new Callable(`the method ${name}`, (args, keywords) => {
    if (keywords.size > 0) fail(`${name}() takes no keyword arguments`);
    return work(args, keywords);
  });
}
