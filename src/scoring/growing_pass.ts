import { type Gpu, GpuMemoryError, Program, withRoom } from "../gpu/mod.ts";
import type { BatchLive } from "../model/batch.ts";
import type { Decoder } from "../model/decoder.ts";
import type { KeyValues } from "../model/layers/attention.ts";
import { DecoderPass } from "../model/pass.ts";
import { mostTokens } from "../model/pass_layers.ts";

const SMALLEST_BUDGET = 256;

/** The buffers and programs that score batches; they grow with the largest batch so far. */
export class GrowingPass {
  #pass: DecoderPass | null = null;
  /** What the pass has room for; keys: 0 where it knows none. */
  #room = { tokens: 0, keys: 0 };
  #program: Program<BatchLive> | null = null;
  /** For batches that know some of their keys. */
  #withKnown: { readonly program: Program<BatchLive>; readonly stored: readonly KeyValues[] } | null = null;

  /** @param makeRoom called where the device has no room; whether it is worth another attempt */
  constructor(
    private readonly gpu: Gpu,
    private readonly decoder: Decoder,
    private readonly makeRoom: () => boolean,
  ) {}

  /**
   * A pass with room for a batch.
   *
   * @param keys that tokens of the batch attend to, where some are known; else 0
   * @throws {GpuMemoryError} where the device has none for it, not even at its own size
   */
  async prepare(tokens: number, keys: number): Promise<DecoderPass> {
    const had = this.#room;
    if (this.#pass && had.tokens >= tokens && had.keys >= keys) return this.#pass;
    this.free();
    const most = mostTokens(this.gpu, this.decoder.config);
    const roundedUp = (wanted: number) =>
      Math.min(most, Math.max(SMALLEST_BUDGET, 2 ** Math.ceil(Math.log2(wanted))));
    const mostKeys = Math.max(keys, had.keys);
    const rounded = {
      tokens: roundedUp(Math.max(tokens, had.tokens)),
      keys: mostKeys === 0 ? 0 : roundedUp(mostKeys),
    };
    try {
      return await withRoom(this.makeRoom, () => this.#makePass(rounded));
    } catch (error) {
      if (!(error instanceof GpuMemoryError)) throw error;
      return await this.#makePass({ tokens, keys });
    }
  }

  async #makePass(room: { readonly tokens: number; readonly keys: number }): Promise<DecoderPass> {
    const { tokens, keys } = room;
    this.#pass = await this.gpu.allocate(() =>
      new DecoderPass(
        this.gpu,
        this.decoder,
        { tokens, rows: tokens, sequences: tokens },
        { mode: "score", ...(keys > 0 && { keys }) },
      )
    );
    this.#room = room;
    return this.#pass;
  }

  /**
   * The program of a prepared pass.
   *
   * @param stored keys and values of earlier batches, where the batch knows some of its own
   */
  program(stored: readonly KeyValues[] | null): Program<BatchLive> {
    const pass = this.#pass!;
    if (!stored) {
      if (this.#program) return this.#program;
      this.#program = new Program(this.gpu, "score");
      pass.recordForward(this.#program);
      return this.#program;
    }
    if (this.#withKnown?.stored === stored) return this.#withKnown.program;
    this.#withKnown?.program.free();
    const program = new Program<BatchLive>(this.gpu, "score_known");
    pass.recordForward(program, stored);
    this.#withKnown = { program, stored };
    return program;
  }

  /** Lets go of everything; the next batch makes it anew. */
  free(): void {
    this.#program?.free();
    this.#withKnown?.program.free();
    this.#pass?.free();
    this.#program = null;
    this.#withKnown = null;
    this.#pass = null;
    this.#room = { tokens: 0, keys: 0 };
  }
}
