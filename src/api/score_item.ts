/** A prompt and its candidates, in `POST /score` and on the lines of a scoring file. */
import { z } from "zod";
import { isDeeper, mostDepth, show } from "../json.ts";
import { refuseField, strictObject } from "../validation.ts";
import { ChatTemplateKwargsSchema, tooDeep } from "./fields.ts";
import { list, most, openObject, text, tokenIds } from "./limits.ts";

const contentKinds = "a string, a list of text parts, or null beside tool_calls";

const PartSchema = openObject({
  type: text(most.nameCharacters),
  text: text(most.textCharacters).optional(),
}, most.keys).superRefine(
  ({ type, text }, context) => {
    const refuse = (field: string, message: string, accepted: string) =>
      context.addIssue({ code: "custom", path: [field], message, params: { accepted, predicate: true } });
    if (type !== "text") refuse("type", `is ${show(type)}: only text is scored.`, "parts of type text");
    else if (text === undefined) refuse("text", "is missing: give a string.", "a string");
  },
).meta({ id: "TextPart" });

const MessageSchema = openObject({
  role: text(most.nameCharacters, 1),
  content: z.union([text(most.textCharacters), list(PartSchema, { min: 1, max: most.parts })], {
    error: contentKinds,
  }).nullish(),
}, most.keys).superRefine((message, context) => {
  if (isDeeper(message, mostDepth)) {
    const params = { accepted: "a turn as chat templates take it", predicate: true };
    return context.addIssue({ code: "custom", message: tooDeep, params });
  }
  const { content, tool_calls } = message;
  if (content != null || (Array.isArray(tool_calls) && tool_calls.length > 0)) return;
  const why = `${content === null ? "must not be null here" : "is missing"}: give ${contentKinds}.`;
  const params = { accepted: contentKinds, predicate: true };
  context.addIssue({ code: "custom", path: ["content"], message: why, params });
}).meta({
  id: "Message",
  description:
    `One turn. Its content is ${contentKinds}; the texts of parts are joined without anything between them. ` +
    "Further keys reach the model's chat template as they are.",
});

const ConversationSchema = list(MessageSchema, { min: 1, max: most.messages });

const TextSchema = text(most.textCharacters);

const textKinds = "a string, a list of messages or a list of token ids";

/** The fields of an item, each as it is where it is given. */
export const itemFields = {
  prompt: z.union([TextSchema, tokenIds(1), ConversationSchema], { error: textKinds }).meta({
    description:
      "Plain text, taken as it is; a conversation, as rows of preference data have it; or token ids, to " +
      "which neither BOS nor EOS is added.",
    example: "2 + 2 =",
  }),
  messages: ConversationSchema.describe("A conversation, which the model's chat template turns into text."),
  candidates: list(z.union([TextSchema, tokenIds(0), ConversationSchema], { error: textKinds }), {
    min: 1,
    max: most.candidates,
  })
    .meta({
      description:
        "Responses to compare: texts, which beside a conversation are an assistant's turn each; lists of messages, of one " +
        "turn or several; or, where the prompt is token ids, token ids. EOS is added behind a text that does not end with it, " +
        "and scored as one of its tokens, unless add_eos_token is false. A candidate without a token to score (an empty one) or " +
        "too long for the context has null scores and a reason, and the others are compared; where it is the request's only " +
        "one, the request is refused (422).",
      example: [" 4", " 5"],
    }),
  tools: list(openObject({}, most.keys), { max: most.tools }).nullish().superRefine((tools, context) => {
    const params = { accepted: "functions as JSON schemas", predicate: true };
    if (isDeeper(tools, mostDepth)) context.addIssue({ code: "custom", message: tooDeep, params });
  }).describe(
    "Functions that the chat template is told of, as rows have them; a prompt of text is a user's turn then.",
  ),
};

/** What is accepted where {@link checkItem} finds no prompt, or two. */
const oneOfPromptAndMessages = `one of prompt (${textKinds}) and messages (a list of messages)`;

/** An item as it may come. */
interface GivenItem {
  readonly prompt?: unknown;
  readonly messages?: unknown;
  readonly candidates?: readonly unknown[] | undefined;
  readonly tools?: unknown;
}

/** Refuses an item whose fields do not go together. */
export function checkItem(
  { prompt, messages, candidates = [], tools }: GivenItem,
  context: z.core.$RefinementCtx,
): void {
  if ((prompt === undefined) === (messages === undefined)) {
    const why = prompt === undefined ? "prompt is missing" : "prompt and messages are both given";
    return refuseField(
      context,
      ["prompt"],
      `${why}: give ${oneOfPromptAndMessages}.`,
      oneOfPromptAndMessages,
    );
  }
  const ids = isTokenIds(prompt);
  if (ids && Array.isArray(tools) && tools.length > 0) {
    const message = "tools are for chat templates, which write no token ids: leave one of the two out.";
    return refuseField(context, ["tools"], message, "no tools beside token ids");
  }
  const other = candidates.findIndex((one) => !isEmptyList(one) && isTokenIds(one) !== ids);
  if (other < 0) return;
  const [accepted, message] = ids
    ? ["token ids", "is text beside a prompt of token ids: give token ids for both, or for neither."]
    : [
      "a string or a list of messages",
      "is token ids beside a prompt of text: give token ids for both, or for neither.",
    ];
  const params = { accepted, predicate: true };
  context.addIssue({ code: "custom", path: ["candidates", other], message, params });
}

function isTokenIds(value: unknown): boolean {
  return Array.isArray(value) && typeof value[0] === "number";
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** One prompt with its candidates. */
export const ItemSchema = strictObject({
  prompt: itemFields.prompt.optional(),
  messages: itemFields.messages.optional(),
  candidates: itemFields.candidates,
  tools: itemFields.tools,
  chat_template_kwargs: ChatTemplateKwargsSchema.nullish().meta({
    description: "Variables for the chat template beside the request's, as rows have them.",
    example: { enable_thinking: false },
  }),
}).superRefine(checkItem).meta({
  id: "ScoreItem",
  oneOf: [{ required: ["prompt"] }, { required: ["messages"] }],
});

/** See {@link ItemSchema}. */
export type Item = z.infer<typeof ItemSchema>;
