/** Configurations of a data set, as its README.md declares them: https://huggingface.co/docs/hub/datasets-manual-configuration */
import { InputError, mustBe, within } from "../../errors.ts";
import { isObject } from "../../json.ts";
import { patternsBySplit } from "./patterns.ts";

/** A configuration. */
export interface Configuration {
  readonly name: string;
  readonly isDefault: boolean;
  /** Folder that its files are looked for in; "" for all of them. */
  readonly data_dir: string;
  /** Patterns of each split; null where the names of files tell. */
  readonly data_files: ReadonlyMap<string, readonly string[]> | null;
  /** Settings that change what the rows are. */
  readonly unread: readonly string[];
}

/** What `datasets` reads a file by and this worker does not. */
const READERS = ["column_names", "encoding", "field", "header", "names", "quotechar", "skiprows"];

/** Of front matter, which is read while others wait. */
const MOST_CHARACTERS = 2 ** 20;

/**
 * Reads the configurations in a README.md's front matter.
 *
 * @throws {InputError} where it cannot be read
 */
export async function readConfigs(readme: string): Promise<Configuration[]> {
  const [, front = ""] = /^\uFEFF?---\r?\n(.*?)\r?\n---/s.exec(readme) ?? [];
  if (!/^["']?configs["']?\s*:/m.test(front)) return [];
  if (front.length > MOST_CHARACTERS) {
    throw new InputError((file) => `${file} has front matter of ${front.length} characters.`, {
      path: [{ file: "README.md" }],
      accepted: `at most ${MOST_CHARACTERS} characters between two lines of ---`,
    });
  }
  // @ts-types="./_js_yaml.d.ts"
  const { load } = await import("js-yaml");
  return within([{ file: "README.md" }], () => {
    let value: unknown;
    try {
      value = load(front);
    } catch (error) {
      const [why] = (error as Error).message.split("\n");
      throw new InputError((file) => `${file} has front matter that is no YAML: ${why}.`, {
        accepted: "YAML between two lines of ---",
      });
    }
    const configs = isObject(value) ? value.configs : undefined;
    if (Array.isArray(configs)) {
      return configs.map((config, i) => within(["configs", i], () => readConfig(config)));
    }
    throw mustBe("a list of configurations", ["configs"], configs);
  });
}

/**
 * The configuration of a name; without one the only one, or the one that is marked as default.
 *
 * @returns null where there are none
 * @throws {InputError} naming those that there are
 */
export function chooseConfig(
  configs: readonly Configuration[],
  name: string | undefined,
): Configuration | null {
  const names = configs.map((config) => config.name);
  const chosen = name !== undefined
    ? configs.find((config) => config.name === name)
    : configs.length === 1
    ? configs[0]
    : configs.find((config) => config.isDefault);
  if (chosen === undefined) {
    if (configs.length === 0 && name === undefined) return null;
    const found = names.length === 0
      ? "no configurations and no such folder"
      : `the configurations ${names.join(", ")}`;
    const accepted = names.length === 0 ? "no name" : names.join(" | ");
    throw new InputError(
      (field) => `${field} ${name === undefined ? "is missing" : `names none`}: the data set has ${found}.`,
      { value: name, accepted },
    );
  }
  if (chosen.unread.length === 0) return chosen;
  throw new InputError(
    (field) =>
      `${field} ${JSON.stringify(chosen.name)} is read by ${
        chosen.unread.join(", ")
      }, which is not known here.`,
    { value: chosen.name, accepted: "a configuration without them, or data_files" },
  );
}

function readConfig(config: unknown): Configuration {
  if (!isObject(config) || typeof config.config_name !== "string") {
    throw mustBe("a name", ["config_name"], isObject(config) ? config.config_name : config);
  }
  const { config_name: name, data_dir, data_files } = config;
  return {
    name,
    isDefault: config.default === true || name === "default",
    data_dir: typeof data_dir === "string" ? data_dir.replace(/^\.\//, "").replace(/\/$/, "") : "",
    data_files: data_files === undefined ? null : within(["data_files"], () => readPatterns(data_files)),
    unread: unreadSettings(config),
  };
}

function unreadSettings(config: Record<string, unknown>): string[] {
  const isOther = (value: unknown) => value !== undefined && value !== "," && value !== "\t";
  return [
    ...READERS.filter((key) => config[key] !== undefined),
    ...["sep", "delimiter"].filter((key) => isOther(config[key])),
  ];
}

/** A pattern, a list of them, or a list of {split, path}. */
function readPatterns(value: unknown): Map<string, readonly string[]> {
  const isText = (value: unknown) => typeof value === "string";
  if (isText(value)) return patternsBySplit(value);
  if (Array.isArray(value) && value.every(isText)) return patternsBySplit(value);
  const entries: [string, string[]][] = [];
  for (const [i, item] of (Array.isArray(value) ? value : [value]).entries()) {
    const { split, path } = isObject(item) ? item : {};
    const paths = isText(path) ? [path] : path;
    if (!isText(split) || !Array.isArray(paths) || !paths.every(isText)) {
      throw mustBe("patterns, or a list of {split, path}", [i], item);
    }
    entries.push([split, paths]);
  }
  return new Map(entries);
}
