/** What of a request's tokens goes into one batch. */
import { InputError, within } from "../errors.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import type { EncodedItem } from "./encode.ts";

/** Some candidates of one item: a prompt with more candidates than a batch holds is put before several runs of them. */
export interface Part {
  /** Index in the item's group of the part's first response. */
  readonly first: number;
  readonly group: EncodedGroup;
}

/**
 * Runs of an item's candidates such that each, with its prompt, fits a batch where that can be.
 *
 * @param budget tokens of a batch
 * @param mostTokens that the device can bind
 * @throws {InputError} at the candidate with which the device has no room for the prompt
 */
export function splitCandidates(
  { group, candidates }: EncodedItem,
  budget: number,
  mostTokens: number,
): Part[] {
  if (group === null) return [];
  const parts: Part[] = [];
  let first = 0;
  while (first < group.responses.length) {
    let count = 1;
    let size = group.prompt.length + group.responses[first]!.tokens.length;
    for (const { tokens } of group.responses.slice(first + 1)) {
      size += tokens.length;
      if (size > budget) break;
      count++;
    }
    const part = { ...group, responses: group.responses.slice(first, first + count) };
    const path = ["candidates", candidates[first]!];
    within(path, () => refuseUnbindable(groupTokens(part), mostTokens, " with its prompt"));
    parts.push({ first, group: part });
    first += count;
  }
  return parts;
}

/** @throws {InputError} for what the device cannot bind at once */
export function refuseUnbindable(tokens: number, mostTokens: number, beside: string): void {
  if (tokens <= mostTokens) return;
  throw new InputError(
    (field) => `${field} takes ${tokens} tokens${beside}, more than a batch of this model may have here.`,
    { path: [], value: `${tokens} tokens`, accepted: `at most ${mostTokens} tokens on this device` },
  );
}
