/** Reads a chat template that came with a request, before it is used. */
import { InputError } from "../errors.ts";

/**
 * Checks that a template is one. The engine is loaded by the first: it would hold up the start of a worker by 10 ms.
 *
 * @param source Jinja, or a template's name; null: nothing to check
 * @throws {InputError} at `chat_template` where Jinja2 would not take it
 */
export async function checkChatTemplate(source: string | null | undefined): Promise<void> {
  if (source == null) return;
  const { ChatTemplate } = await import("./chat_template.ts");
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
