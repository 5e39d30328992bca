/** A long proof. */
export interface Soak {
  /** What it shows, in one sentence. */
  readonly proves: string;
  /** Raised where earlier results no longer count. */
  readonly version: number;
  /** Names of the cells, in their order. */
  readonly cells: readonly string[];
  /** About what a cell takes on two cores. */
  readonly minutesPerCell: number;
  /** @returns figures to be kept @throws where the proof fails */
  run(cell: string, signal: AbortSignal): Promise<Record<string, unknown>>;
}
