import assert from "node:assert/strict";
import { variant } from "../helpers/tier.ts";
import {
  compareBlocks,
  compareStrings,
  digests,
  EVERY_BLOCK,
  SAMPLE,
  tokenizerOf,
} from "./_tokenizer_digests.ts";

const styles = Object.keys(digests);
assert.ok(styles.length >= 20);
for (const name of styles) {
  Deno.test(`encode() and decode() give what the Rust library gives for 2,000 strings and some code points: ${name}`, async () => {
    const tokenizer = await tokenizerOf(name);
    compareBlocks(name, tokenizer, SAMPLE);
    compareStrings(name, tokenizer);
  });
}

/** `deno task soak tokenizers` looks at every block for every style. */
const PARTS = 4;
for (const [index, name] of styles.entries()) {
  variant(false)(
    `encode() and decode() give what the Rust library gives for a quarter of the code points below U+20000: ${name}`,
    async () => {
      const blocks = EVERY_BLOCK.filter((block) => block % PARTS === index % PARTS);
      compareBlocks(name, await tokenizerOf(name), blocks);
    },
  );
}
