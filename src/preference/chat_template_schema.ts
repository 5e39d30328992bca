/** A chat template as a request gives it. */
import { z } from "@hono/zod-openapi";
import { ChatTemplate, mostTemplateCharacters } from "./chat_template.ts";

const accepted = "a Jinja template";

/** The source of a template, which parses. */
export const ChatTemplateSchema = z.string().min(1).max(mostTemplateCharacters).superRefine(
  (source, context) => {
    try {
      new ChatTemplate(source);
    } catch (error) {
      // the parser reads past the end of a block that nothing ends
      const why = error instanceof TypeError ? "a block is not ended" : (error as Error).message;
      const message = `is not ${accepted}: ${why.replace(/\.?$/, ".")}`;
      context.addIssue({ code: "custom", message, params: { accepted, predicate: true } });
    }
  },
).meta({
  description: "Jinja source that conversations are written with, in place of the model's own.",
  example: "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}",
});
