/** Fields that several requests have. */
import { z } from "zod";
import { QUANTIZATIONS } from "../model/quantization.ts";
import { ChatTemplate, mostTemplateCharacters } from "../preference/chat_template.ts";

const jinja = "a Jinja template";

/** The source of a template that Jinja2 takes, or the name of one of the model's, which is a template too. */
export const ChatTemplateSchema = z.string().min(1).max(mostTemplateCharacters).superRefine(
  (source, context) => {
    try {
      new ChatTemplate(source);
    } catch (error) {
      const message = `is not ${jinja}: ${(error as Error).message.replace(/\.?$/, ".")}`;
      context.addIssue({ code: "custom", message, params: { accepted: jinja, predicate: true } });
    }
  },
).meta({
  description:
    "Jinja source that conversations are written with, in place of the model's own; or the name of one of the " +
    "model's templates, where it has several.",
  example: "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}",
});

/** How a request that scores wants the model's weights held. */
export const quantizationField = z.enum(QUANTIZATIONS).nullable().optional().meta({
  description:
    "int8: the model's linear layers are held in 8 bits; null: as their file has them. Left out, what a job was trained " +
    "with where the job's id is given, else null.",
});
