/** Messages between a text thread and its owner. */
import type { PlainError } from "../plain_error.ts";
import type { TextCallName, TextCalls } from "./calls.ts";
import type { Stage } from "./pulse.ts";

/** What the thread is started with. */
export interface Start {
  /** To the thread's owner. */
  readonly port: MessagePort;
  /** The buffer of its {@link Pulse}. */
  readonly pulse: SharedArrayBuffer;
}

/** To the thread. */
export type ToText =
  | {
    readonly id: number;
    readonly name: TextCallName;
    readonly request: TextCalls[TextCallName]["request"];
  }
  /** Nobody waits for a call's answer any more. */
  | { readonly interrupt: number };

/** From the thread: what a call tells, then its answer. */
export type FromText =
  & { readonly id: number }
  & (
    | { readonly item: unknown }
    | { readonly value: unknown }
    | { readonly error: PlainError }
    /** In place of an answer: a step asked JavaScript for more than it gives, as for a text of 2^30 characters. */
    | { readonly excess: { readonly stage: Stage; readonly row: number; readonly why: string } }
  );
