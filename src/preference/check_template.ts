/** Reads a chat template that came with a request, before it is used. */
import { InputError } from "../errors.ts";
import { ChatTemplate } from "./chat_template.ts";

/**
 * Checks that a template is one.
 *
 * @param source Jinja, or a template's name
 * @throws {InputError} at `chat_template` where Jinja2 would not take it
 */
export function parseChatTemplate(source: string): void {
  try {
    new ChatTemplate(source);
  } catch (error) {
    const why = (error as Error).message.replace(/\.?$/, ".");
    throw new InputError((field) => `${field} is not a Jinja template: ${why}`, {
      path: ["chat_template"],
      value: source,
      accepted: "a Jinja template",
    });
  }
}
