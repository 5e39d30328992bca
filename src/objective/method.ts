/** SimPO: -logsigmoid(beta (s_chosen - s_rejected) - gamma), arXiv 2405.14734. */
export interface SimpoMethod {
  readonly type: "simpo";
  /** Scale of the implicit reward. */
  readonly beta: number;
  /** Target reward margin, absolute (the authors' `gamma_beta_ratio` times beta). */
  readonly gamma: number;
  readonly loss_type: "sigmoid" | "hinge";
  readonly label_smoothing: number;
  /** Weight of the chosen responses' token-mean cross-entropy, added to the loss. */
  readonly sft_weight: number;
}

/** Plain likelihood training: token-mean cross-entropy of one completion a row. */
export interface SftMethod {
  readonly type: "sft";
}

/** What training minimises. */
export type Method = SimpoMethod | SftMethod;
