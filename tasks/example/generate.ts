/** Makes the demo's text: the corpus that the tiny model is pre-trained on and the preferences that SimPO learns from. */
import { learnMerges, tokenizerJson } from "./byte_pair_encoding.ts";
import { drawProblem, isHeldOut, type Problem, type Style, word } from "./problems.ts";
import { Random } from "./random.ts";

export const SPECIAL_TOKENS = [
  "<|begin|>",
  "<|end|>",
  "<|user|>",
  "<|assistant|>",
  "<|system|>",
  "<|pad|>",
] as const;

/** Special tokens, the 256 bytes and up to 154 merges, enough to make every word of the corpus one token. */
export const VOCABULARY_SIZE = 416;

/** Share of the corpus whose system turn names the writer: from it the model learns that there are two of them. */
const NAMED_WRITERS = 0.5;

/** Share of right answers where no system turn names the writer: there the hasty one is the more frequent. */
const UNNAMED_RIGHT = 0.3;

const CORPUS_TERSE = 0.6;

const CAREFUL = "Take care.";
const HASTY = "Be quick.";

/** How long the right answer is beside the wrong one, in the order that preference rows take turns. */
const LENGTHS: readonly (readonly [right: Style, slip: Style])[] = [
  ["terse", "long"],
  ["long", "terse"],
  ["terse", "terse"],
  ["long", "long"],
];

interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** A row of the corpus: likelihood training scores the assistant's turn. */
export interface CorpusRow {
  readonly messages: readonly Message[];
}

export interface PreferenceRow {
  readonly prompt: readonly Message[];
  readonly chosen: readonly Message[];
  readonly rejected: readonly Message[];
}

/** A held-out question with four candidate answers. */
export interface CandidatesRow {
  readonly prompt: readonly Message[];
  readonly candidates: readonly string[];
  /** Indices of the right ones, for whoever judges the ranking. */
  readonly correct: readonly number[];
}

function draw(random: Random, heldOut: boolean): Problem {
  for (;;) {
    const problem = drawProblem(random);
    if (isHeldOut(problem) === heldOut) return problem;
  }
}

const system = (content: string): Message => ({ role: "system", content });
const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });

/**
 * The corpus has two writers, a careful one whose answers are right and a hasty one whose answers are slips. Both are
 * as often terse and as often long-winded.
 */
export function* corpusRows(seed: number, count: number): Generator<CorpusRow> {
  const random = new Random(`corpus ${seed}`);
  for (let i = 0; i < count; i++) {
    const problem = draw(random, false);
    const named = random.chance(NAMED_WRITERS);
    const careful = random.chance(named ? 0.5 : UNNAMED_RIGHT);
    const style: Style = random.chance(CORPUS_TERSE) ? "terse" : "long";
    yield {
      messages: [
        ...(named ? [system(careful ? CAREFUL : HASTY)] : []),
        user(problem.question),
        assistant(word(careful ? problem.right : problem.slip, style, random)),
      ],
    };
  }
}

/**
 * Preference rows: the right answer is chosen, the slip rejected. In a quarter of the rows the right one is terse and the
 * wrong one long, in a quarter the other way round, in the rest both have one style: length says nothing.
 */
export function* preferenceRows(
  seed: number,
  split: "train" | "eval",
  count: number,
): Generator<PreferenceRow> {
  const random = new Random(`preferences ${split} ${seed}`);
  const seen = new Set<string>();
  for (let i = 0; i < count;) {
    const problem = draw(random, split === "eval");
    if (seen.has(problem.key)) continue;
    seen.add(problem.key);
    const [right, slip] = LENGTHS[i++ % LENGTHS.length] as [Style, Style];
    yield {
      prompt: [user(problem.question)],
      chosen: [assistant(word(problem.right, right, random))],
      rejected: [assistant(word(problem.slip, slip, random))],
    };
  }
}

/** Held-out questions with a terse and a long answer of each sort, in random order. */
export function* candidatesRows(seed: number, count: number): Generator<CandidatesRow> {
  const random = new Random(`candidates ${seed}`);
  for (let i = 0; i < count; i++) {
    const problem = draw(random, true);
    const candidates = random.shuffle([true, true, false, false].map((correct, j) => ({
      correct,
      text: word(correct ? problem.right : problem.slip, j % 2 === 0 ? "terse" : "long", random),
    })));
    yield {
      prompt: [user(problem.question)],
      candidates: candidates.map(({ text }) => text),
      correct: candidates.flatMap(({ correct }, index) => correct ? [index] : []),
    };
  }
}

/** tokenizer.json, its merges learnt from the start of the corpus. */
export function makeTokenizer(seed: number): Record<string, unknown> {
  const texts = [...corpusRows(seed, 10_000)].flatMap(({ messages }) =>
    messages.map(({ content }) => content)
  );
  return tokenizerJson(SPECIAL_TOKENS, learnMerges(texts, VOCABULARY_SIZE - SPECIAL_TOKENS.length - 256));
}
