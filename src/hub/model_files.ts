/** Which files of a repository a model or an adapter is made of. */
import { InputError } from "../errors.ts";
import { isTokenizerFile } from "../model/tokenizer_files.ts";

/** Beside the weights: what is read of a model, and what its users expect beside an exported one. */
function isSmall(path: string): boolean {
  return path === "config.json" || path === "generation_config.json" || isTokenizerFile(path);
}

/**
 * Chooses a model's files: configuration, tokenizer and safetensors weights, whole or in shards with their index.
 *
 * @param paths The repository's files
 * @param repository `org/name`, for the error
 * @throws {InputError} where there are no safetensors weights
 */
export function chooseModelFiles(paths: readonly string[], repository: string): string[] {
  const whole = paths.includes("model.safetensors");
  const weights = whole
    ? ["model.safetensors"]
    : paths.filter((path) => /^model-\d+-of-\d+\.safetensors$|^model\.safetensors\.index\.json$/.test(path));
  if (!weights.some((path) => path.endsWith(".safetensors"))) throw noWeights(repository);
  return [...paths.filter(isSmall), ...weights];
}

/** Chooses what a model's texts need: configuration and tokenizer. */
export function chooseTokenizerFiles(paths: readonly string[]): string[] {
  return paths.filter(isSmall);
}

/**
 * Chooses an adapter's files: PEFT's two and those of a tokenizer of its own, or else whole weights.
 *
 * @throws {InputError} as `chooseModelFiles`
 */
export function chooseAdapterFiles(paths: readonly string[], repository: string): string[] {
  if (!paths.includes("adapter_config.json")) return chooseModelFiles(paths, repository);
  if (!paths.includes("adapter_model.safetensors")) throw noWeights(repository);
  return ["adapter_config.json", "adapter_model.safetensors", ...paths.filter(isTokenizerFile)];
}

function noWeights(repository: string): InputError {
  return new InputError(`${repository} has no weights as safetensors.`, {
    value: repository,
    accepted: "a repository with safetensors weights; a pytorch_model.bin must be converted first",
  });
}
