/** Any number of answers, and what ranks them. */
import { InputError } from "../../errors.ts";
import { isObject } from "../../json.ts";
import { type Answer, type AnswerShape, numberOf, takeList, takeNumber } from "./answers.ts";
import type { Columns } from "./columns.ts";
import { readText } from "./turns.ts";

/** A list of answers, and a list beside it of numbers that rank them. */
function rankedBeside(answers: string, numbers: string, lowerIsBetter: boolean): AnswerShape {
  return {
    columns: [answers, numbers],
    read: (columns) => {
      const texts = takeList(columns, answers);
      const ranks = takeList(columns, numbers);
      if (texts.length !== ranks.length) {
        throw new InputError(
          (field) => `${field} has ${ranks.length} numbers for the ${texts.length} of ${answers}.`,
          { path: [numbers], value: ranks, accepted: "a number an answer" },
        );
      }
      return texts.map((text, index) => {
        const value = numberOf(ranks[index], [numbers, index]);
        const path = [answers, index];
        return { text: readText(text, path), rank: lowerIsBetter ? value : -value, path };
      });
    },
  };
}

/** A list of objects with an answer and a number each. */
function rankedInside(answers: string, text: string, number: string, lowerIsBetter: boolean): AnswerShape {
  return {
    columns: [answers],
    inside: [text, number],
    read: (columns) =>
      takeList(columns, answers).map((entry, index) => {
        const one = isObject(entry) ? entry : {};
        columns.drop(`${answers}[]`, one, text, number);
        const path = [answers, index, text];
        const value = numberOf(one[number], [answers, index, number]);
        return { text: readText(one[text], path), rank: lowerIsBetter ? value : -value, path };
      }),
  };
}

/** Shapes of any number of answers. */
export const RANKED_SHAPES: readonly AnswerShape[] = [
  rankedInside("answers", "answer", "rank", true),
  rankedInside("answers", "text", "pm_score", false),
  rankedInside("completions", "response", "overall_score", false),
  rankedInside("responses", "text", "score", false),
  { columns: ["summaries", "choice"], read: readSummaries },
  ...["responses", "answers", "completions", "all_generated_responses", "generations", "candidates"].flatMap((
    answers,
  ) => [
    ...["ranks", "rank"].map((numbers) => rankedBeside(answers, numbers, true)),
    ...["scores", "all_rm_scores", "rewards", "ratings", "rating"]
      .map((numbers) => rankedBeside(answers, numbers, false)),
  ]),
];

/** Two summaries of a post, and the index of the better one. */
function readSummaries(columns: Columns): Answer[] {
  const summaries = takeList(columns, "summaries");
  const choice = takeNumber(columns, "choice");
  if (summaries[choice] === undefined) {
    throw new InputError(
      (field) => `${field} must be the index of the better of ${summaries.length} summaries.`,
      { path: ["choice"], value: choice, accepted: "an index from 0" },
    );
  }
  return summaries.map((entry, index) => {
    const path = ["summaries", index, "text"];
    columns.drop("summaries[]", entry, "text");
    const text = readText(isObject(entry) ? entry["text"] : undefined, path);
    return { text, rank: index === choice ? 1 : 2, path };
  });
}
