/** What is used of js-yaml, which has no types of its own. */
export function load(text: string): unknown;
