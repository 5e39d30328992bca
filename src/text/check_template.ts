import { textThread } from "./thread.ts";

/**
 * Checks that a chat template which came with a request is one, in the thread that reads texts.
 *
 * @param source Jinja, or a template's name; null: nothing to check
 * @throws {InputError} at `chat_template` where Jinja2 would not take it, or reading it takes too long
 */
export async function checkChatTemplate(source: string | null | undefined): Promise<void> {
  if (source != null) await textThread().call("template", { chat_template: source });
}
