/** Messages between the owner of a text thread, its supervisor and the thread itself. */
import type { PlainError } from "../plain_error.ts";
import type { TextCallName, TextCalls } from "./calls.ts";

/** What the thread is started with. */
export interface Start {
  /** To the thread's owner. */
  readonly port: MessagePort;
  /** The buffer of its {@link Pulse}. */
  readonly pulse: SharedArrayBuffer;
}

/** To the supervisor: how much heap the thread may have; then, that it is to end. */
export type ToSupervisor = (Start & { readonly heapMb: number }) | "end";

/** From the supervisor: why the thread has ended by itself. */
export type FromSupervisor = { readonly broken: string };

/** To the thread. */
export type ToText =
  | {
    readonly id: number;
    readonly name: TextCallName;
    readonly request: TextCalls[TextCallName]["request"];
  }
  /** Nobody waits for a call's answer any more. */
  | { readonly interrupt: number };

/** From the thread: its answers, in any order. */
export type FromText =
  & { readonly id: number }
  & ({ readonly value: unknown } | { readonly error: PlainError });
