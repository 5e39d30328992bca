import { loadTokenizer, type Tokenizer } from "../preference/tokenizer.ts";
import type { EncodingModel } from "../scoring/encode.ts";
import type { TrainEvent, TrainRequest } from "../training/request.ts";
import { TokenSignal } from "../training/token_signal.ts";
import { writeTokens } from "../training/write_tokens.ts";
import type { RunningCall } from "./handlers.ts";

/** Tells a job's thread as its rows become tokens. @throws {InputError} where they cannot */
export async function readRows(
  { settings: given, ...request }: TrainRequest,
  { turn, pulse, emit }: RunningCall,
  { config, tokenizer }: EncodingModel,
): Promise<void> {
  const signal = new TokenSignal(request.tokens);
  const tell = (event: TrainEvent) => emit(event);
  if (request.init_adapter !== null) {
    const own = await loadTokenizer(request.model, request.init_adapter);
    if (!isAlike(own, tokenizer)) tell({ type: "warning", message: OTHER_TOKENIZER });
  }
  const settings = { ...given, max_length: Math.min(given.max_length, config.context_length) };
  pulse.reading();
  const watched = { onRow: (row: number) => pulse.row = row, onRead: () => pulse.reading() };
  const reading = { config, tokenizer, emit: tell, pause: turn, ...watched };
  await writeTokens(reading, request, settings, () => signal.state = "large");
}

const OTHER_TOKENIZER =
  "The adapter that training goes on from keeps a tokenizer or special tokens other than the model's: they are not used.";

/** Whether two tokenizers name the same ends and have the same tokens, of which a thousand are looked at. */
function isAlike(a: Tokenizer, b: Tokenizer): boolean {
  const traits = ({ bos, eosId, addBos, vocabSize, token }: Tokenizer) => {
    const every = Math.ceil(vocabSize / 1000);
    return JSON.stringify([
      bos,
      eosId,
      addBos,
      vocabSize,
      Array.from({ length: Math.ceil(vocabSize / every) }, (_, i) => token(i * every)),
    ]);
  };
  return traits(a) === traits(b);
}
