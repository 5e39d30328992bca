/** A preference row as pairs of a better and a worse response to one prompt. */
import { InputError } from "../../errors.ts";
import { isObject } from "../../json.ts";
import { NAMED_SHAPES } from "./answer_shapes.ts";
import { type Answer, type AnswerShape, checkWeights } from "./answers.ts";
import type { Columns } from "./columns.ts";
import { JUDGED_SHAPES } from "./judged_shapes.ts";
import { type Pair, withPrompt } from "./pair_prompt.ts";
import { RANKED_SHAPES } from "./ranked_shapes.ts";

/** Which pairs a row of several ranked answers makes. */
export type PairChoice = "best_worst" | "adjacent" | "all";

/** What such a row is, for one that is not. */
export const PREFERENCE_SHAPES =
  "{prompt, chosen, rejected}, {chosen, rejected} or {input, preferred_output, non_preferred_output}";

/**
 * Reads a preference row.
 *
 * @param choice which pairs are wanted of a row with several answers; undefined: best and worst, and named pairs first
 * @returns The pairs: none where no answer is better than another. null where the row has no answers' columns.
 * @throws {InputError} where it could be read in two ways, or a column holds something else
 */
export function readPairs(columns: Columns, choice: PairChoice | undefined): Pair[] | null {
  const shape = answerShape(columns, choice !== undefined);
  if (shape === null) return null;
  const answers = shape.read(columns);
  for (const answer of answers) checkWeights(columns, answer);
  const taken = [...shape.columns, ...shape.further ?? []];
  const ranks = [...new Set(answers.map(({ rank }) => rank))].sort((a, b) => a - b);
  return choose(answers, choice ?? "best_worst").map(([better, worse]) => {
    const pair = withPrompt(columns, taken, better, worse);
    if (answers.length === 2) return pair;
    return { ...pair, ranks: [ranks.indexOf(better.rank) + 1, ranks.indexOf(worse.rank) + 1] };
  });
}

function answerShape(columns: Columns, wantsRanked: boolean): AnswerShape | null {
  const fits = ({ columns: names }: AnswerShape) =>
    names.every((name) => columns.has(name)) && names.some((name) => columns.peek(name) != null);
  // A mapped column says which shape is meant.
  const meant = (shapes: readonly AnswerShape[]) => {
    const mapped = shapes.filter((shape) => shape.columns.some((name) => columns.isMapped(name)));
    return mapped.length > 0 ? mapped : shapes;
  };
  const paired = meant([...NAMED_SHAPES, ...JUDGED_SHAPES].filter(fits));
  const ranked = meant(
    RANKED_SHAPES.filter((shape) => fits(shape) && hasAnswers(columns.peek(shape.columns[0]!), shape)),
  );
  // Data made by sampling keeps all samples beside the pair that was chosen among them.
  const [first = null, second] = wantsRanked && ranked.length > 0
    ? ranked
    : [...paired, ...paired.length > 0 ? [] : ranked];
  if (first === null || second === undefined) return first;
  const readings = [first, second].map(({ columns }) => `{${columns.join(", ")}}`);
  throw new InputError(
    (place) => `${place} could be read as ${readings.join(" or as ")}: say which in dataset.columns.`,
    { value: columns.names, accepted: "columns of one shape, or dataset.columns" },
  );
}

/** Whether a column is a list of answers as the shape has them, by the first of them. */
function hasAnswers(value: unknown, { inside }: AnswerShape): boolean {
  if (!Array.isArray(value) || value.length === 0) return false;
  return inside === undefined || inside.every((name) => isObject(value[0]) && name in value[0]);
}

/** Pairs of answers of which one is better than the other. */
function choose(answers: readonly Answer[], choice: PairChoice): [Answer, Answer][] {
  const sorted = answers.toSorted((a, b) => a.rank - b.rank);
  const pairs: [Answer, Answer][] = [];
  const add = (better: Answer | undefined, worse: Answer | undefined) => {
    if (better && worse && better.rank < worse.rank) pairs.push([better, worse]);
  };
  if (choice === "best_worst") add(sorted[0], sorted.find(({ rank }) => rank === sorted.at(-1)!.rank));
  else {
    for (const [i, better] of sorted.entries()) {
      for (const worse of choice === "all" ? sorted.slice(i + 1) : [sorted[i + 1]]) add(better, worse);
    }
  }
  return pairs;
}
