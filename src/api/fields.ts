/** Fields that several requests have. */
import { z } from "zod";
import { QUANTIZATIONS } from "../model/quantization.ts";
import { ChatTemplate, mostTemplateCharacters } from "../preference/chat_template.ts";

const jinja = "a Jinja template";

/** The source of a template, which parses. */
export const ChatTemplateSchema = z.string().min(1).max(mostTemplateCharacters).superRefine(
  (source, context) => {
    try {
      new ChatTemplate(source);
    } catch (error) {
      // the parser reads past the end of a block that nothing ends
      const why = error instanceof TypeError ? "a block is not ended" : (error as Error).message;
      const message = `is not ${jinja}: ${why.replace(/\.?$/, ".")}`;
      context.addIssue({ code: "custom", message, params: { accepted: jinja, predicate: true } });
    }
  },
).meta({
  description: "Jinja source that conversations are written with, in place of the model's own.",
  example: "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}",
});

/** How a request that scores wants the model's weights held. */
export const quantizationField = z.enum(QUANTIZATIONS).nullable().optional().meta({
  description:
    "int8: the model's linear layers are held in 8 bits; null: as their file has them. Left out, what a job was trained " +
    "with where the job's id is given, else null.",
});
