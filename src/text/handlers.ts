/** What the text thread does for each call of the table. */
import { encodeScore, encodeSequences } from "../scoring/encode_request.ts";
import type { TextCallName, TextCalls } from "./calls.ts";
import type { Pulse } from "./pulse.ts";
import { scoringTokenizer, trainingTokenizer } from "./tokenizers.ts";

/** A call as its handler sees it. */
export interface RunningCall {
  /** Lets others have the thread. @throws {Interrupted} where nobody waits for the call any more */
  readonly turn: () => Promise<void>;
  readonly pulse: Pulse;
  /** Tells the caller something before the answer. */
  readonly emit: (item: TextCalls["rows"]["item"]) => void;
}

/** A handler a call; what it throws is the caller's. */
export type TextHandlers = {
  readonly [Name in TextCallName]: (
    request: TextCalls[Name]["request"],
    call: RunningCall,
  ) => Promise<TextCalls[Name]["result"]>;
};

/** A handler a call. */
export const handlers: TextHandlers = {
  score: async (request, { turn, pulse }) =>
    await encodeScore(await scoringTokenizer(request, pulse), request, turn),
  sequences: async (request, { turn, pulse }) =>
    await encodeSequences(await scoringTokenizer(request, pulse), request, turn),
  names: async ({ ids, ...weights }, { pulse }) => {
    const { tokenizer } = await scoringTokenizer(weights, pulse);
    return ids.map((id) => tokenizer.token(id));
  },
  template: async ({ chat_template }, { pulse }) => {
    pulse.beat("reads a template");
    const { parseChatTemplate } = await import("../preference/check_template.ts");
    parseChatTemplate(chat_template);
    return null;
  },
  model: async ({ model, lora }, { pulse }) => {
    pulse.beat("reads a model");
    const { checkModel } = await import("../jobs/check_model.ts");
    await checkModel(model, lora);
    return null;
  },
  adapter_form: async ({ adapter, model, lora }, { pulse }) => {
    pulse.beat("reads a model");
    const { withFormOf } = await import("../jobs/adapter_form.ts");
    return await withFormOf(adapter, model, lora);
  },
  templates: async ({ model }, { pulse }) => {
    pulse.beat("reads files");
    const { readTemplates } = await import("../preference/template_files.ts");
    return await readTemplates(model);
  },
  inspect: async (request, { turn, pulse }) => {
    const { inspect } = await import("../training/inspect.ts");
    const encoding = await trainingTokenizer(request.model, pulse);
    pulse.reading();
    const onRow = (row: number) => pulse.row = row;
    return await inspect(request, { ...encoding, pause: turn, onRow, onRead: () => pulse.reading() });
  },
  rows: async (request, call) => {
    const { readRows } = await import("./rows.ts");
    await readRows(request, call, await trainingTokenizer(request.model, call.pulse));
    return null;
  },
};
