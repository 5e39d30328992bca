/** The README's HTTP examples: what it tells a reader to paste, and what it says comes back. */

/** A request with the answer that stands under it. */
export interface Example {
  readonly path: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly answer: unknown;
}

/** The shell blocks that call curl, each with the JSON block that follows it. */
export function readExamples(markdown: string): Example[] {
  const blocks = [...markdown.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text]) => ({
    language,
    text: text!,
  }));
  return blocks.flatMap(({ language, text }, index) => {
    if (language !== "sh" || !/^curl /m.test(text)) return [];
    const answer = blocks[index + 1];
    if (answer?.language !== "json") throw new Error(`No JSON block follows: ${text}`);
    return [{ ...parseCurl(text), answer: JSON.parse(answer.text) }];
  });
}

/** Understands the few flags of curl that the README uses, and refuses others. */
export function parseCurl(command: string): Omit<Example, "answer"> {
  const [name, ...words] = shellWords(command);
  if (name !== "curl") throw new Error(`No curl command: ${command}`);
  let url: URL | undefined;
  let body: string | null = null;
  const headers: Record<string, string> = {};
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!;
    if (word === "-s" || word === "-N") continue;
    if (word === "-H") {
      const [, key, value] = /^([^:]+): *(.*)$/s.exec(words[++index]!)!;
      headers[key!] = value!;
    } else if (word === "-d") body = words[++index]!;
    else if (url === undefined && !word.startsWith("-")) url = new URL(word);
    else throw new Error(`The README calls curl with ${word}, which its test does not understand.`);
  }
  if (url?.origin !== "http://localhost:8080") {
    throw new Error(`The README calls ${url} instead of the default port.`);
  }
  return { path: url.pathname + url.search, method: body === null ? "GET" : "POST", headers, body };
}

/** Words of a POSIX shell command without expansions: blanks part them, quotes keep them together. */
function shellWords(command: string): string[] {
  const joined = command.trim().replaceAll(/\\\n/g, " ");
  const pattern = /'([^']*)'|"([^"$`\\]*)"|([^\s'"$`\\|&;<>()]+)|(\s+)|(.)/gs;
  const words: string[] = [];
  let word: string | undefined;
  for (const [, single, double, plain, blank, other] of joined.matchAll(pattern)) {
    if (other !== undefined) throw new Error(`The README's command needs a shell for ${other}: ${command}`);
    if (blank === undefined) word = (word ?? "") + (single ?? double ?? plain);
    else if (word !== undefined) {
      words.push(word);
      word = undefined;
    }
  }
  return word === undefined ? words : [...words, word];
}

/**
 * Where an answer differs from what the README prints: fields it does not print are free, `…` in a text stands for
 * anything, numbers may differ by the rounding of another device.
 *
 * @returns one line a difference
 */
export function differences(printed: unknown, actual: unknown, path = "answer"): string[] {
  if (typeof printed === "number" && typeof actual === "number") {
    return Math.abs(printed - actual) <= 1e-4 * Math.max(1, Math.abs(printed))
      ? []
      : [`${path}: printed ${printed}, answered ${actual}`];
  }
  if (typeof printed === "string" && typeof actual === "string") {
    const parts = printed.split("…").map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    if (new RegExp(`^${parts.join(".+")}$`, "s").test(actual)) return [];
  } else if (Array.isArray(printed) && Array.isArray(actual) && printed.length === actual.length) {
    return printed.flatMap((value, index) => differences(value, actual[index], `${path}[${index}]`));
  } else if (isRecord(printed) && isRecord(actual)) {
    return Object.entries(printed).flatMap(([key, value]) =>
      differences(value, actual[key], `${path}.${key}`)
    );
  } else if (printed === actual) return [];
  return [`${path}: printed ${JSON.stringify(printed)}, answered ${JSON.stringify(actual)}`];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
