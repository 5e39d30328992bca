/** What training changed, as text for a terminal: scores of the same candidates before and after, side by side. */
/** A held-out pair: two candidates, one of them preferred. */
export interface HeldOutPair {
  readonly prompt: string;
  readonly candidates: readonly [string, string];
  /** Index of the preferred candidate. */
  readonly preferred: 0 | 1;
}

/** What is shown of a candidate's score. */
interface Score {
  readonly average_logprob: number;
  readonly num_tokens: number;
}

/** The candidates' scores, in the pair's order. */
export type PairScores = readonly [Score, Score];

/** How well scores agree with the preferences. */
export interface Agreement {
  /** Share of pairs whose preferred candidate scores strictly higher. */
  readonly accuracy: number;
  /** Mean of the preferred candidate's average log-prob minus the other's. */
  readonly margin: number;
  /** Mean tokens of the winning candidates. */
  readonly winnerTokens: number;
}

/** Sums up scores of all pairs, in the pairs' order. */
export function agreementOf(pairs: readonly HeldOutPair[], scores: readonly PairScores[]): Agreement {
  const mean = (valueOf: (pair: HeldOutPair, scores: PairScores) => number) =>
    pairs.reduce((sum, pair, index) => sum + valueOf(pair, scores[index]!), 0) / pairs.length;
  return {
    accuracy: mean((pair, scores) => marginOf(pair, scores) > 0 ? 1 : 0),
    margin: mean(marginOf),
    winnerTokens: mean((_, scores) => scores[winnerOf(scores)].num_tokens),
  };
}

/**
 * A table of the first pairs and of what all pairs sum up to. No colours, at most 80 columns: `*` is the preferred
 * candidate, `>` the one that wins.
 *
 * @param shown how many pairs are shown in full
 */
export function formatBeforeAfter(
  pairs: readonly HeldOutPair[],
  before: readonly PairScores[],
  after: readonly PairScores[],
  shown: number,
): string {
  const row = (label: string, left: string, right: string) =>
    `${label.padEnd(54)} ${left.padStart(11)} ${right.padStart(11)}`;
  const score = (scores: PairScores, index: 0 | 1) =>
    `${winnerOf(scores) === index ? "> " : ""}${scores[index].average_logprob.toFixed(3)}`;
  const lines = [row("average log-prob (* preferred, > wins)", "before", "after")];
  for (const [index, pair] of pairs.slice(0, shown).entries()) {
    lines.push("", shorten(pair.prompt, 78));
    for (const candidate of [0, 1] as const) {
      const mark = pair.preferred === candidate ? "*" : " ";
      lines.push(row(
        `  ${mark} ${shorten(pair.candidates[candidate], 48)}`,
        score(before[index]!, candidate),
        score(after[index]!, candidate),
      ));
    }
  }
  const [first, second] = [agreementOf(pairs, before), agreementOf(pairs, after)];
  const signed = (value: number) => (value < 0 ? "" : "+") + value.toFixed(3);
  lines.push(
    "",
    row(`all ${pairs.length} held-out pairs`, "before", "after"),
    row("  accuracy: the preferred candidate wins", first.accuracy.toFixed(3), second.accuracy.toFixed(3)),
    row("  margin: preferred minus other", signed(first.margin), signed(second.margin)),
    row("  tokens of the winning candidate", first.winnerTokens.toFixed(1), second.winnerTokens.toFixed(1)),
  );
  return lines.join("\n");
}

function marginOf(pair: HeldOutPair, scores: PairScores): number {
  return scores[pair.preferred].average_logprob - scores[pair.preferred === 0 ? 1 : 0].average_logprob;
}

function winnerOf(scores: PairScores): 0 | 1 {
  return scores[1].average_logprob > scores[0].average_logprob ? 1 : 0;
}

function shorten(text: string, width: number): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`;
}
