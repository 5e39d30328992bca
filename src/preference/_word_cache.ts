import {
  BPE,
  ByteLevelPreTokenizer,
  DigitsPreTokenizer,
  type PreTokenizer,
  SequencePreTokenizer,
  SplitPreTokenizer,
  type Tokenizer,
} from "@huggingface/tokenizers";

/** Words whose tokens are kept. */
const KEPT_WORDS = 2 ** 17;
/** UTF-16 units of the longest word that is kept: longer ones hardly come again. */
const LONGEST_WORD = 64;
/** Texts whose tokens are kept: a row's prompt comes alone and before each of its responses. */
const KEPT_TEXTS = 16;
/** Sentencepiece's space. */
const SPACE = "\u2581";

type Split = (text: string) => readonly string[];

/**
 * Makes a BPE tokenizer keep the tokens of the words that it has met, and of the last texts between special tokens. A data
 * set has few different words, and to spell one in bytes and merge them takes much longer than to look it up. The tokens
 * stay the same.
 */
export function cacheWords(tokenizer: Tokenizer): void {
  const { model } = tokenizer;
  if (!(model instanceof BPE)) return;
  const words = takeSplits(tokenizer) ?? { splits: [beforeSpaces(model)], spell: (word) => [word] };
  const encode = model.encode.bind(model);
  model.max_length_to_cache = 0; // its own cache has nothing left to do

  const ofWords = new Map<string, readonly string[]>();
  const ofWord = (word: string): readonly string[] => {
    const known = ofWords.get(word);
    if (known) return known;
    const tokens = encode([...words.spell(word)]);
    if (ofWords.size === KEPT_WORDS) ofWords.clear();
    if (word.length <= LONGEST_WORD) ofWords.set(word, tokens);
    return tokens;
  };
  const ofTexts = new Map<string, readonly string[]>();
  const ofText = (text: string): readonly string[] => {
    const known = ofTexts.get(text);
    if (known) return known;
    let parts: readonly string[] = [text];
    for (const split of words.splits) parts = parts.length === 1 ? split(parts[0]!) : parts.flatMap(split);
    const tokens: string[] = [];
    for (const word of parts) {
      for (const token of ofWord(word)) tokens.push(token);
    }
    if (text.length <= LONGEST_WORD) return tokens;
    if (ofTexts.size === KEPT_TEXTS) ofTexts.delete(ofTexts.keys().next().value!);
    ofTexts.set(text, tokens);
    return tokens;
  };
  model.encode = (texts) => texts.flatMap(ofText);
}

/**
 * Takes a tokenizer's pre-tokenizer away where all that it does is to split a text and to spell the words' bytes as characters,
 * so that a word is looked up before it is spelled. What asks for more (the text's place among special tokens) stays.
 */
function takeSplits(tokenizer: Tokenizer): { splits: Split[]; spell: Split } | null {
  const { pre_tokenizer } = tokenizer;
  const stages = pre_tokenizer instanceof SequencePreTokenizer
    ? [...pre_tokenizer.tokenizers]
    : [pre_tokenizer];
  const last = stages.pop();
  if (!(last instanceof ByteLevelPreTokenizer)) return null;
  const isSplit = (stage: PreTokenizer | null) =>
    stage instanceof SplitPreTokenizer || stage instanceof DigitsPreTokenizer;
  if (!stages.every(isSplit)) return null;
  tokenizer.pre_tokenizer = null;
  const { add_prefix_space, use_regex, pattern, config } = last;
  const bytes = new ByteLevelPreTokenizer({ ...config, add_prefix_space: false, use_regex: false });
  return {
    splits: [
      ...stages.map((stage): Split => (text) => stage!.pre_tokenize_text(text)),
      (text) => {
        const spaced = add_prefix_space && !text.startsWith(" ") ? ` ${text}` : text;
        return use_regex ? spaced.match(pattern) ?? [] : [spaced];
      },
    ],
    spell: (word) => bytes.pre_tokenize_text(word),
  };
}

/** Sentencepiece's BPE takes a text as one word; no merge crosses these places in it, which are before most spaces. */
function beforeSpaces({ merges, ignore_merges, end_of_word_suffix, continuing_subword_suffix }: BPE): Split {
  // these ask where a word ends
  if (ignore_merges || end_of_word_suffix || continuing_subword_suffix) return (text) => [text];
  const joined = new Set([SPACE]); // what a merge may put before a space
  for (const [left, right] of merges) if (right.startsWith(SPACE)) joined.add(left.at(-1)!);
  return (text) => {
    const words: string[] = [];
    let start = 0;
    for (let at = text.indexOf(SPACE, 1); at > 0; at = text.indexOf(SPACE, at + 1)) {
      if (joined.has(text[at - 1]!)) continue;
      words.push(text.slice(start, at));
      start = at;
    }
    words.push(text.slice(start));
    return words;
  };
}
