/** The ways in which data sets write a row's answers. */
import { type Answer, type AnswerShape, takeAnswer } from "./answers.ts";
import type { Columns } from "./columns.ts";
import { JUDGED_SHAPES } from "./judged_shapes.ts";
import { PROMPT_COLUMNS } from "./prompts.ts";
import { RANKED_SHAPES } from "./ranked_shapes.ts";
import { readText } from "./turns.ts";

/** Two columns, the better one first. */
function named(better: string, worse: string): AnswerShape {
  return {
    columns: [better, worse],
    read: (columns) => [takeAnswer(columns, better, 1), ...worseAnswers(columns, worse)],
  };
}

/** The worse answer, or several as a list of strings; without a prompt such a list may be turns as well. */
function worseAnswers(columns: Columns, name: string): Answer[] {
  const value = columns.peek(name);
  const several = Array.isArray(value) && value.length > 1 &&
    value.every((text) => typeof text === "string") &&
    PROMPT_COLUMNS.some((column) => columns.hasText(column));
  if (!several) return [takeAnswer(columns, name, 2)];
  columns.take(name);
  return value.map((text, index) => ({ text: readText(text, [name, index]), rank: 2, path: [name, index] }));
}

/** Shapes whose columns name the better answer, as any row may have beside others. */
export const NAMED_SHAPES: readonly AnswerShape[] = [
  named("chosen", "rejected"),
  named("chosen_response", "rejected_response"),
  named("response_j", "response_k"),
  named("response", "rejected_response"),
  named("accepted", "rejected"),
  named("preferred_output", "non_preferred_output"),
  ...["rejected_response", "rejected_messages"].map((worse): AnswerShape => ({
    // the conversation's own last turn is the better answer
    columns: ["messages", worse],
    read: (columns) => [takeAnswer(columns, "messages", 1), takeAnswer(columns, worse, 2)],
  })),
];

/** Every column that answers may be read from. */
export const ANSWER_COLUMNS: readonly string[] = [...NAMED_SHAPES, ...JUDGED_SHAPES, ...RANKED_SHAPES]
  .flatMap(({ columns, further = [] }) => [...columns, ...further]);
