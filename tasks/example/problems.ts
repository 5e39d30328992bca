/**
 * Small problems with one right answer and one typical slip, worded tersely or at length.
 *
 * Three kinds: compare two numbers, sort three letters, reverse three letters. A slip is what a hasty reader would say: the
 * other number, two letters the wrong way round. Slips are worded as right answers are, so only the prompt tells them
 * apart.
 */
import { hashText, Random } from "./random.ts";

/** An answer's content, before a style is chosen for it. */
export interface Answer {
  /** Terse wordings, each a whole response. */
  readonly terse: readonly string[];
  /** The sentence that a long-winded response is built around. */
  readonly sentence: string;
}

/** A question with its right answer and its slip. */
export interface Problem {
  readonly kind: "compare" | "sort" | "reverse";
  /** The same for every wording and order of one problem: the splits are made by it. */
  readonly key: string;
  readonly question: string;
  readonly right: Answer;
  readonly slip: Answer;
}

export type Style = "terse" | "long";

const ALPHABET = [..."abcdefghijklmnopqrstuvwxyz"];
const OPENINGS = [
  "Well, let me see.",
  "Thank you, nice question.",
  "I went over it twice.",
  "This one is for me.",
] as const;
const CLOSINGS = [
  "I am quite sure of that.",
  "There is no doubt about it.",
  "You can take my word for it.",
] as const;

function compare(random: Random): Problem {
  // Different tens: where they are equal the second digits decide, which is too rare to be learnt from this corpus.
  const [first, second] = random.sample([1, 2, 3, 4, 5, 6, 7, 8, 9], 2)
    .map((tens) => 10 * tens + random.below(10)) as [number, number];
  const word = random.pick(["larger", "smaller"]);
  const right = word === "larger" ? Math.max(first, second) : Math.min(first, second);
  const answer = (number: number): Answer => ({
    terse: [`It is ${number}.`, `I say ${number}.`],
    sentence: `The ${word} one is ${number}.`,
  });
  return {
    kind: "compare",
    key: `compare ${Math.min(first, second)} ${Math.max(first, second)}`,
    question: `Which is ${word}, ${first} or ${second}?`,
    right: answer(right),
    slip: answer(first + second - right),
  };
}

function letters(given: readonly string[]): Answer {
  const list = given.join(" ");
  return { terse: [`It is ${list}.`, `I say ${list}.`], sentence: `The letters are ${list}.` };
}

function sort(random: Random): Problem {
  const given = random.sample(ALPHABET, 3);
  const [first, second, third] = given.toSorted() as [string, string, string];
  return {
    kind: "sort",
    key: `sort ${first} ${second} ${third}`,
    question: `Put these letters in order: ${given.join(" ")}.`,
    right: letters([first, second, third]),
    slip: letters([second, first, third]),
  };
}

function reverse(random: Random): Problem {
  const given = random.sample(ALPHABET, 3) as [string, string, string];
  const [first, second, third] = given;
  return {
    kind: "reverse",
    key: `reverse ${given.join(" ")}`,
    question: `Read these letters backwards: ${given.join(" ")}.`,
    right: letters([third, second, first]),
    slip: letters([third, first, second]),
  };
}

/** Draws a problem of a random kind. */
export function drawProblem(random: Random): Problem {
  return random.pick([compare, sort, reverse])(random);
}

/** Every eighth problem is kept for evaluation: no wording of it appears in a training row. */
export function isHeldOut(problem: Problem): boolean {
  return hashText(problem.key) % 8 === 0;
}

/** Puts an answer into words. Style and correctness are independent: both draw from the same phrases. */
export function word(answer: Answer, style: Style, random: Random): string {
  if (style === "terse") return random.pick(answer.terse);
  return `${random.pick(OPENINGS)} ${answer.sentence} ${random.pick(CLOSINGS)}`;
}
