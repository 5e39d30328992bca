/** What a rendering is at. */
import { chargeOutput, chargeText, deeper } from "./budget.ts";
import type { Value } from "./values.ts";

/** What all functions of one rendering share. */
export interface Rendering {
  /** Variables and globals by name. */
  readonly context: ReadonlyMap<string, Value>;
  /** What has been written, or what the macro or block that is being written has. */
  output: string;
}

/** One call of a function that the template becomes, with its variables; undefined: not set. */
export class Frame {
  readonly slots: (Value | undefined)[];

  constructor(readonly rendering: Rendering, readonly parent: Frame | null, size: number) {
    this.slots = new Array<Value | undefined>(size).fill(undefined);
  }

  /** The frame so many functions further out. */
  out(hops: number): Frame {
    return hops === 0 ? this : this.parent!.out(hops - 1);
  }
}

export function write(rendering: Rendering, text: string): void {
  chargeOutput(text.length);
  rendering.output += text;
}

/** What some work writes, kept from what has been written. */
export function captured<T>(
  rendering: Rendering,
  work: () => T,
): { readonly text: string; readonly result: T } {
  const before = rendering.output;
  rendering.output = "";
  try {
    const result = work();
    return { text: rendering.output, result };
  } finally {
    rendering.output = before;
  }
}

/** What a function of the template writes. @param outer the frame that it is called from */
export function calledText(outer: Frame, size: number, work: (frame: Frame) => void): string {
  return deeper(() => {
    const frame = new Frame(outer.rendering, outer, size);
    const { text } = captured(outer.rendering, () => work(frame));
    chargeText(text.length);
    return text;
  });
}
