import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { encodeComparison, type EncodeSettings } from "../../src/preference/encode.ts";
import { parseRow } from "../helpers/settings.ts";
import type { Tokenizer } from "../../src/preference/tokenizer.ts";
import { VALUES } from "../reference/values.ts";
import { type Files, load } from "./_tokenizers.ts";

/** A response behind its prompt; what stands from `scored_from` on is scored. */
interface Sequence {
  readonly ids: readonly number[];
  readonly scored_from: number;
}

/** What the authors' code makes of a row. */
interface Case {
  readonly row: string;
  readonly settings: Omit<EncodeSettings, "prompt_boundary">;
  readonly chosen: Sequence;
  readonly rejected: Sequence;
}

interface Style {
  readonly name: string;
  /** Folder under values/tokens. */
  readonly tokenizer: string;
  /** Entries of tokenizer_config.json in place of that folder's. */
  readonly config: Files;
}

const read = async <T>(file: string): Promise<T> => JSON.parse(await readFile(`${VALUES}/${file}`, "utf8"));
const rows = new Map((await read<{ name: string }[]>("authors/rows.json")).map((row) => [row.name, row]));

for (const { name, tokenizer: folder, config } of await read<Style[]>("authors/styles.json")) {
  Deno.test(`encodeComparison() gives the tokens that the SimPO authors' code gives: ${name}`, async () => {
    const tokenizer = await load({
      "tokenizer.json": await read(`tokens/${folder}/tokenizer.json`),
      "tokenizer_config.json": { ...await read<Files>(`tokens/${folder}/tokenizer_config.json`), ...config },
    });
    const cases = await read<Case[]>(`authors/${name}.json`);
    const whole = new Map(
      cases.filter(({ settings }) => settings.max_length === 4096).map((each) => [each.row, each]),
    );
    for (const each of cases) {
      const { name: _, ...row } = rows.get(each.row)!;
      const settings = { ...each.settings, prompt_boundary: "simpo" } as const;
      const { group, left_out } = encodeComparison(tokenizer, parseRow(row, 1, "preference"), settings);
      const found = group?.responses.map(({ tokens, scored_from }) => ({
        ids: [...group.prompt, ...tokens],
        scored_from: group.prompt.length + scored_from,
      }));
      const what = JSON.stringify([each.row, each.settings]);
      // Theirs trains on a response without text; here such a row is left out.
      if (/\b(empty|no response)$/.test(each.row)) {
        assert.equal(left_out?.reason, "response 1 of 2 is empty", what);
        continue;
      }
      assert(found !== undefined, left_out?.reason);
      if (each.row === "turns apart") {
        // Where more than the last turn differs, theirs drops the rejected conversation's own turns and puts its last one
        // behind the chosen one's. Here all that differs is the response.
        const theirs = each.chosen;
        assert.deepEqual(found[0]?.ids, theirs.ids);
        assert(found[0].scored_from < theirs.scored_from && found[1]?.scored_from === found[0].scored_from);
        continue;
      }
      const uncut = whole.get(each.row)!;
      const expected = ([[each.chosen, uncut.chosen], [each.rejected, uncut.rejected]] as const).map((
        [theirs, whole],
      ) => ours(name, tokenizer, cutAsHere(each.settings, tokenizer, uncut, whole, theirs)));
      assert.deepEqual(found, expected, what);
    }
  });
}

/** Theirs, but for two losses in cutting that are not repeated here. */
function cutAsHere(
  { max_length, max_prompt_length, truncation_mode }: Case["settings"],
  { bos }: Tokenizer,
  { chosen, rejected }: Case,
  whole: Sequence,
  theirs: Sequence,
): Sequence {
  if (Math.max(chosen.ids.length, rejected.ids.length) <= max_length) return theirs;
  if (whole.scored_from > max_prompt_length) {
    // Theirs keeps a prompt's last tokens without BOS.
    if (truncation_mode === "keep_start") return theirs;
    assert.notEqual(theirs.ids[0], bos);
    return { ...theirs, ids: [bos!, ...theirs.ids.slice(1)] };
  }
  // Theirs leaves responses max_length - max_prompt_length tokens, be the prompt shorter than max_prompt_length.
  const spared = max_prompt_length - whole.scored_from;
  assert.deepEqual(theirs, { ...whole, ids: whole.ids.slice(0, max_length - spared) });
  return { ...whole, ids: whole.ids.slice(0, max_length) };
}

/** Theirs, but for what its templating of the response alone, and its BOS, do to some models. */
function ours(style: string, tokenizer: Tokenizer, theirs: Sequence): Sequence {
  const { ids, scored_from } = theirs;
  const [prompt, response] = [ids.slice(0, scored_from), ids.slice(scored_from)];
  switch (style) {
    case "qwen2": {
      // The template puts its own system turn before a lone response: a conversation has no second one.
      const system = tokenizer.encode("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n");
      assert.deepEqual(response.slice(0, system.length), system);
      return { ids: [...prompt, ...response.slice(system.length)], scored_from };
    }
    case "smollm":
      // BOS is taken off a lone response, and here it is what opens a turn.
      return { ids: [...prompt, tokenizer.bos!, ...response], scored_from };
    case "phi3":
      // BOS comes before every prompt; add_bos_token says that this model has none.
      assert.equal(ids[0], tokenizer.bos);
      return { ids: ids.slice(1), scored_from: scored_from - 1 };
    default:
      return theirs;
  }
}
