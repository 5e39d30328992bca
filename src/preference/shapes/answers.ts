/** A preference row's answers and which are better, by whatever columns a data set keeps them in. */
import { InputError, type Path } from "../../errors.ts";
import { isObject } from "../../json.ts";
import type { Text } from "../rows.ts";
import type { Columns } from "./columns.ts";
import { promptColumns } from "./prompts.ts";
import { describe, readText, readTurns } from "./turns.ts";

/** One answer to a row's prompt, or a whole conversation that ends with it. */
export interface Answer {
  readonly text: Text;
  /** 1 is the best; equal ranks say that neither is better. */
  readonly rank: number;
  /** Where it stands in its row. */
  readonly path: Path;
}

/** A way in which data sets write several answers. */
export interface AnswerShape {
  /** Columns that a row of this shape has. */
  readonly columns: readonly string[];
  /** Further columns that are its own where they are there. */
  readonly further?: readonly string[];
  /** What each entry of the first column has, where that is a list of objects. */
  readonly inside?: readonly string[];
  /** @throws InputError where a column holds something else */
  readonly read: (columns: Columns) => Answer[];
}

/** Two columns, the better one first. */
function named(better: string, worse: string): AnswerShape {
  return {
    columns: [better, worse],
    read: (columns) => [answer(columns, better, 1), ...worseAnswers(columns, worse)],
  };
}

/** The worse answer, or several as a list of strings; without a prompt such a list may be turns as well. */
function worseAnswers(columns: Columns, name: string): Answer[] {
  const value = columns.peek(name);
  const several = Array.isArray(value) && value.length > 1 &&
    value.every((text) => typeof text === "string") &&
    promptColumns.some((column) => columns.hasText(column));
  if (!several) return [answer(columns, name, 2)];
  columns.take(name);
  return value.map((text, index) => ({ text: readText(text, [name, index]), rank: 2, path: [name, index] }));
}

/**
 * Two columns, and others that say which is better.
 *
 * @param better what the verdict says: above 0 the second is better, below 0 the first
 */
function judged(
  first: string,
  second: string,
  verdict: readonly string[],
  better: (columns: Columns) => number,
  further: readonly string[] = [],
): AnswerShape {
  return {
    columns: [first, second, ...verdict],
    further,
    read: (columns) => {
      const answers = [answer(columns, first, 1), answer(columns, second, 1)];
      const sign = better(columns);
      return answers.map((one, index) => ({ ...one, rank: judgedRank(index, sign) }));
    },
  };
}

/** Above 0 the second is better, below 0 the first. */
function judgedRank(index: number, sign: number): number {
  return sign === 0 || (index === 1) === (sign > 0) ? 1 : 2;
}

/** A list of answers, and a list beside it of numbers that rank them. */
function rankedBeside(answers: string, numbers: string, lowerIsBetter: boolean): AnswerShape {
  return {
    columns: [answers, numbers],
    read: (columns) => {
      const texts = list(columns, answers);
      const ranks = list(columns, numbers);
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
      list(columns, answers).map((entry, index) => {
        const one = isObject(entry) ? entry : {};
        columns.drop(`${answers}[]`, one, text, number);
        const path = [answers, index, text];
        const value = numberOf(one[number], [answers, index, number]);
        return { text: readText(one[text], path), rank: lowerIsBetter ? value : -value, path };
      }),
  };
}

/** Shapes whose columns name the better answer, as any row may have beside others. */
export const namedShapes: readonly AnswerShape[] = [
  named("chosen", "rejected"),
  named("chosen_response", "rejected_response"),
  named("response_j", "response_k"),
  named("response", "rejected_response"),
  named("accepted", "rejected"),
  named("preferred_output", "non_preferred_output"),
  ...["rejected_response", "rejected_messages"].map((worse): AnswerShape => ({
    // the conversation's own last turn is the better answer
    columns: ["messages", worse],
    read: (columns) => [answer(columns, "messages", 1), answer(columns, worse, 2)],
  })),
];

/** Shapes with a verdict of its own column. */
export const judgedShapes: readonly AnswerShape[] = [
  judged("response_1", "response_2", ["preference_strength"], number("preference_strength")),
  judged("response1", "response2", ["overall_preference"], number("overall_preference")),
  judged("human_ref_A", "human_ref_B", ["labels"], (columns) => 1 - 2 * number("labels")(columns)),
  judged(
    "response_0",
    "response_1",
    ["better_response_id"],
    (columns) => 2 * number("better_response_id")(columns) - 1,
  ),
  judged(
    "answer_0",
    "answer_1",
    ["score_0", "score_1"],
    (columns) => number("score_1")(columns) - number("score_0")(columns),
  ),
  {
    ...judged("conversation_a", "conversation_b", ["winner"], winner, ["turn"]),
    read: readJudgedTurns,
  },
  judged("response_a", "response_b", ["winner"], winner),
  {
    ...judged("response_a", "response_b", ["winner_model_a", "winner_model_b"], winners, [
      "winner_tie",
      "prompt",
    ]),
    read: readArenaRow,
  },
];

/** Shapes of any number of answers. */
export const rankedShapes: readonly AnswerShape[] = [
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

/** Every column that answers may be read from. */
export const answerColumns: readonly string[] = [...namedShapes, ...judgedShapes, ...rankedShapes]
  .flatMap(({ columns, further = [] }) => [...columns, ...further]);

/** MT-Bench judges a conversation's first `turn` turns of the user and their answers. */
function readJudgedTurns(columns: Columns): Answer[] {
  const sign = winner(columns);
  const last = columns.has("turn") && columns.peek("turn") != null ? number("turn")(columns) : Infinity;
  return ["conversation_a", "conversation_b"].map((name, index) => {
    const { turns } = readTurns(columns.take(name), [name]);
    let asked = 0;
    const end = turns.findIndex(({ role }) => role === "user" && ++asked > last);
    return { text: end < 0 ? turns : turns.slice(0, end), rank: judgedRank(index, sign), path: [name] };
  });
}

/** Two summaries of a post, and the index of the better one. */
function readSummaries(columns: Columns): Answer[] {
  const summaries = list(columns, "summaries");
  const choice = number("choice")(columns);
  if (summaries[choice] === undefined) {
    throw new InputError(
      (field) => `${field} must be the index of the better of ${summaries.length} summaries.`,
      {
        path: ["choice"],
        value: choice,
        accepted: "an index from 0",
      },
    );
  }
  return summaries.map((entry, index) => {
    const path = ["summaries", index, "text"];
    columns.drop("summaries[]", entry, "text");
    const text = readText(isObject(entry) ? entry["text"] : undefined, path);
    return { text, rank: index === choice ? 1 : 2, path };
  });
}

/** Chatbot arena's first data set has the turns of each side as JSON text. */
function readArenaRow(columns: Columns): Answer[] {
  const asked = jsonStrings(columns.take("prompt"), ["prompt"]);
  const sign = winners(columns);
  return ["response_a", "response_b"].map((name, index) => {
    const answered = jsonStrings(columns.take(name), [name]);
    if (answered.length !== asked.length) {
      throw new InputError(
        (field) => `${field} has ${answered.length} turns, and the prompt ${asked.length}.`,
        {
          path: [name],
          value: answered.length,
          accepted: "an answer a turn",
        },
      );
    }
    const text = asked.flatMap((content, turn) => [
      { role: "user", content },
      { role: "assistant", content: answered[turn]! },
    ]);
    return { text, rank: judgedRank(index, sign), path: [name] };
  });
}

function jsonStrings(value: unknown, path: Path): string[] {
  let list = value;
  try {
    if (typeof value === "string") list = JSON.parse(value);
  } catch { /* said below */ }
  if (Array.isArray(list) && list.every((entry) => typeof entry === "string")) return list;
  throw new InputError((field) => `${field} must be a list of strings, or JSON text of one.`, {
    path,
    value,
    accepted: "JSON text of a list of strings",
  });
}

function winner(columns: Columns): number {
  const value = columns.take("winner");
  const side = typeof value === "string"
    ? /^\s*(?:(?:model|response|assistant)_)?([ab])\s*$/i.exec(value)
    : null;
  if (side !== null) return side[1]!.toLowerCase() === "a" ? -1 : 1;
  if (typeof value === "string" && /^(tie|both)/.test(value)) return 0;
  throw new InputError((field) => `${field} must say which is better, not ${describe(value)}.`, {
    path: ["winner"],
    value,
    accepted: "model_a, model_b, tie or tie (bothbad)",
  });
}

function winners(columns: Columns): number {
  columns.take("winner_tie");
  return number("winner_model_b")(columns) - number("winner_model_a")(columns);
}

function number(name: string): (columns: Columns) => number {
  return (columns) => numberOf(columns.take(name), [name]);
}

/** A number, as a file of text alone may write it. */
function numberOf(value: unknown, path: Path): number {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number === "boolean") return Number(number);
  if (typeof number === "number" && Number.isFinite(number)) return number;
  throw new InputError((field) => `${field} must be a number, not ${describe(value)}.`, {
    path,
    value,
    accepted: "a number",
  });
}

function list(columns: Columns, name: string): readonly unknown[] {
  const value = columns.take(name);
  if (Array.isArray(value)) return value;
  throw new InputError((field) => `${field} must be a list, not ${describe(value)}.`, {
    path: [name],
    value,
    accepted: "a list with an entry an answer",
  });
}

function answer(columns: Columns, name: string, rank: number): Answer {
  const text = readText(columns.take(name), [name], () => columns.note(`${name} as JSON text`));
  return { text, rank, path: [name] };
}

/** A turn that is not to be learned from (`weight: 0`) is no answer. */
export function checkWeights(columns: Columns, { path }: Answer): void {
  const name = path[0];
  const value = typeof name === "string" && path.length === 1 ? columns.peek(name) : undefined;
  if (!Array.isArray(value) || value.every((entry) => typeof entry === "string")) return;
  const { turns, unweighted } = readTurns(value, path);
  if (!unweighted.includes(turns.length - 1)) return;
  throw new InputError((field) => `${field} ends with a turn of weight 0, which is not to be learned from.`, {
    path,
    accepted: "a last turn with a weight other than 0",
  });
}
