/** Two answers, and columns that say which is better. */
import { InputError, type Path } from "../../errors.ts";
import { type Answer, type AnswerShape, takeAnswer, takeNumber } from "./answers.ts";
import type { Columns } from "./columns.ts";
import { describe, fromJson, readTurns } from "./turns.ts";

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
      const answers = [takeAnswer(columns, first, 1), takeAnswer(columns, second, 1)];
      const sign = better(columns);
      return answers.map((one, index) => ({ ...one, rank: judgedRank(index, sign) }));
    },
  };
}

/** Above 0 the second is better, below 0 the first. */
function judgedRank(index: number, sign: number): number {
  return sign === 0 || (index === 1) === (sign > 0) ? 1 : 2;
}

/** Shapes with a verdict of its own column. */
export const JUDGED_SHAPES: readonly AnswerShape[] = [
  judged(
    "response_1",
    "response_2",
    ["preference_strength"],
    (columns) => takeNumber(columns, "preference_strength"),
  ),
  judged(
    "response1",
    "response2",
    ["overall_preference"],
    (columns) => takeNumber(columns, "overall_preference"),
  ),
  judged("human_ref_A", "human_ref_B", ["labels"], (columns) => 1 - 2 * takeNumber(columns, "labels")),
  judged(
    "response_0",
    "response_1",
    ["better_response_id"],
    (columns) => 2 * takeNumber(columns, "better_response_id") - 1,
  ),
  judged(
    "answer_0",
    "answer_1",
    ["score_0", "score_1"],
    (columns) => takeNumber(columns, "score_1") - takeNumber(columns, "score_0"),
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

/** MT-Bench judges a conversation's first `turn` turns of the user and their answers. */
function readJudgedTurns(columns: Columns): Answer[] {
  const sign = winner(columns);
  const last = columns.has("turn") && columns.peek("turn") != null ? takeNumber(columns, "turn") : Infinity;
  return ["conversation_a", "conversation_b"].map((name, index) => {
    const { turns } = readTurns(columns.take(name), [name]);
    let asked = 0;
    const end = turns.findIndex(({ role }) => role === "user" && ++asked > last);
    return { text: end < 0 ? turns : turns.slice(0, end), rank: judgedRank(index, sign), path: [name] };
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
        { path: [name], value: answered.length, accepted: "an answer a turn" },
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
  const list = fromJson(value);
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
  return takeNumber(columns, "winner_model_b") - takeNumber(columns, "winner_model_a");
}
