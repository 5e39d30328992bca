/**
 * Small problems with one right answer and one typical slip, worded tersely or at length.
 *
 * Three kinds: look a number up in the prompt, compare two numbers, sort three letters. A slip is what a careless reader
 * would say: the number one line further down, the other one of the two numbers, two letters the wrong way round. Slips
 * are as well-formed as right answers and found by a rule of their own, so only the prompt tells them apart.
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
  readonly kind: "look_up" | "compare" | "sort";
  /** The same for every wording and order of one problem: the splits are made by it. */
  readonly key: string;
  readonly question: string;
  readonly right: Answer;
  readonly slip: Answer;
}

export type Style = "terse" | "long";

const NAMES = ["Mia", "Leo", "Zoe", "Tom", "Ida", "Max", "Eva", "Ben", "Amy", "Sam", "Kim", "Ron"] as const;
const FRUITS = [
  "figs",
  "pears",
  "plums",
  "limes",
  "dates",
  "nuts",
  "kiwis",
  "grapes",
  "melons",
  "apples",
] as const;
const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"];
const OPENINGS = [
  "Well, let me see.",
  "Thank you, nice question.",
  "I went over it twice.",
  "This is an easy one.",
] as const;
const CLOSINGS = [
  "I am quite sure of that.",
  "There is no doubt about it.",
  "You can take my word for it.",
] as const;

function lookUp(random: Random): Problem {
  const owners = random.sample(NAMES, 3);
  const counts = random.sample([2, 3, 4, 5, 6, 7, 8, 9], 3);
  const fruit = random.pick(FRUITS);
  const facts = owners.map((owner, i) => `${owner} has ${counts[i]}`);
  const asked = random.below(3);
  const answer = (count: number): Answer => ({
    terse: [`${owners[asked]} has ${count}.`, `I say ${owners[asked]} has ${count}.`],
    sentence: `${owners[asked]} has ${count} ${fruit}.`,
  });
  return {
    kind: "look_up",
    key: `look_up ${facts.toSorted().join(", ")}`,
    question: `Counting ${fruit}, ${facts[0]}, ${facts[1]} and ${facts[2]}. How many has ${owners[asked]}?`,
    right: answer(counts[asked] as number),
    slip: answer(counts[(asked + 1) % 3] as number),
  };
}

function compare(random: Random): Problem {
  const first = 10 + random.below(90);
  const second = 10 + (first - 10 + 1 + random.below(89)) % 90;
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

function sort(random: Random): Problem {
  const given = random.sample(LETTERS, 3);
  const sorted = given.toSorted() as [string, string, string];
  const answer = (letters: readonly string[]): Answer => ({
    terse: [`It is ${letters.join(" ")}.`, `I say ${letters.join(" ")}.`],
    sentence: `In order they are ${letters.join(" ")}.`,
  });
  return {
    kind: "sort",
    key: `sort ${sorted.join(" ")}`,
    question: `Put these letters in order: ${given.join(" ")}.`,
    right: answer(sorted),
    slip: answer([sorted[1], sorted[0], sorted[2]]),
  };
}

/** Draws a problem of a random kind. */
export function drawProblem(random: Random): Problem {
  return random.pick([lookUp, compare, sort])(random);
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
