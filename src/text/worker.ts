/** The thread in which what others wrote is read: tokenizers, chat templates, rows. */
import { workerData } from "node:worker_threads";
import { Interrupted } from "../errors.ts";
import { toPlainError } from "../plain_error.ts";
import type { FromText, Start, ToText } from "./_messages.ts";
import type { TextCallName } from "./calls.ts";
import { handlers, type RunningCall } from "./handlers.ts";
import { Pulse } from "./pulse.ts";
import { Turns } from "./turns.ts";
import { transferable } from "./_transferable.ts";

const { port, pulse: buffer }: Start = workerData;
const pulse = new Pulse(buffer);
const turns = new Turns();
/** Calls that are not to go on. */
const interrupted = new Set<number>();
const running = new Set<number>();

port.onmessage = ({ data }: MessageEvent<ToText>) => {
  if ("interrupt" in data) {
    if (running.has(data.interrupt)) interrupted.add(data.interrupt);
  } else void serve(data);
};
pulse.turn(null); // tells that it has started

async function serve({ id, name, request }: Extract<ToText, { name: TextCallName }>): Promise<void> {
  running.add(id);
  const take = async () => {
    await turns.take();
    pulse.turn(id);
    if (interrupted.has(id)) throw new Interrupted("cancel");
  };
  const give = () => {
    pulse.turn(null);
    turns.give();
  };
  const turn = async () => {
    give();
    await new Promise((resolve) => setTimeout(resolve, 0)); // lets messages in
    await take();
  };
  let answer: FromText;
  try {
    await take();
    const handler = handlers[name] as (request: unknown, call: RunningCall) => unknown;
    const emit = (item: unknown) => port.postMessage({ id, item } satisfies FromText);
    answer = { id, value: await handler(request, { turn, pulse, emit }) };
  } catch (error) {
    const { stage, row } = pulse;
    answer = error instanceof RangeError
      ? { id, excess: { stage, row, why: error.message } }
      : { id, error: toPlainError(error) };
  }
  const { message, buffers } = transferable(answer);
  port.postMessage(message, buffers);
  give();
  running.delete(id);
  interrupted.delete(id);
}
