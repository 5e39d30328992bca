import assert from "node:assert/strict";
import { selectDataFiles } from "../../src/preference/files/select.ts";

const select = (names: string[], split = "train") => selectDataFiles(names, split);

Deno.test("selectDataFiles() takes a split's shards in order and leaves the rest", () => {
  const names = [
    "README.md",
    "data/train-00001-of-00002.parquet",
    "data/train-00000-of-00002.parquet",
    "data/train_prefs-00000-of-00001-0123456789abcdef.parquet",
    "data/test-00000-of-00001.parquet",
    ".cache/train-00000-of-00002.parquet",
  ];
  assert.deepEqual(select(names), ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]);
  assert.deepEqual(select(names, "train_prefs"), [names[3]]);
});

Deno.test("selectDataFiles() finds a split by a word of a file's or folder's name", () => {
  assert.deepEqual(select(["train.jsonl", "test.jsonl"], "test"), ["test.jsonl"]);
  assert.deepEqual(select(["pairs.train.jsonl", "pairs.dev.jsonl"]), ["pairs.train.jsonl"]);
  assert.deepEqual(select(["train/0000.parquet", "train/0001.parquet", "test/0000.parquet"]), [
    "train/0000.parquet",
    "train/0001.parquet",
  ]);
  assert.throws(() => select(["constraint.jsonl", "test.jsonl"]), { name: "InputError" });
});

Deno.test("selectDataFiles() does not take train_prefs for train, nor a shard of it", () => {
  const names = ["train_prefs-00000-of-00001.parquet", "test_prefs-00000-of-00001.parquet"];
  assert.throws(() => select(names), { message: /the splits are test_prefs, train_prefs\./ });
  assert.deepEqual(select(["train-more.parquet", ...names]), ["train-more.parquet"]);
});

Deno.test("selectDataFiles() takes a JSON file only where there is no other and it is none of the hub's own", () => {
  assert.deepEqual(select(["rows.json", "dataset_info.json", "state.json"]), ["rows.json"]);
  assert.deepEqual(select(["rows.json", "rows.csv.gz"]), ["rows.csv.gz"]);
  assert.deepEqual(select(["train.tsv.zst", "valid.tsv.zst"], "validation"), ["valid.tsv.zst"]);
});

Deno.test("selectDataFiles() takes every file for train, and for train only, where no name tells", () => {
  assert.deepEqual(select(["b.jsonl", "a.jsonl", "config.json", "notes.txt"]), ["a.jsonl", "b.jsonl"]);
  assert.throws(() => select(["a.jsonl"], "test"), {
    name: "InputError",
    message: /split "test".*only a\.jsonl/,
  });
  assert.throws(() => select(["notes.txt"]), {
    name: "InputError",
    message: /the folder has no \.jsonl, \.json/,
  });
});

Deno.test("selectDataFiles() refuses what does not go together or is not whole", () => {
  assert.throws(() => select(["en/train.jsonl", "de/train.jsonl"]), { message: /could be different files/ });
  assert.throws(() => select(["train.jsonl", "train.parquet"]), { message: /could be different files/ });
  assert.throws(() => select(["train-00000-of-00002.parquet"]), { message: /1 files of a split in 2 parts/ });
  assert.throws(() => select(["train-more.parquet", "train/train-00000-of-00002.parquet"]), {
    message: /1 files of a split in 2 parts/,
  });
  assert.throws(() => select(["train-00000-of-00002-ab.parquet", "train-00000-of-00002-cd.parquet"]), {
    message: /2 files of a split in 2 parts/,
  });
});
