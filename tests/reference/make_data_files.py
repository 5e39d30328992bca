"""Makes what tests of data files are held against.

- tests/reference/values/data_files.json: folders of tiny files, and which rows `datasets` loads from them by name,
  data_files and split (null where it refuses)
- tests/fixtures/data/: folders of save_to_disk and a Parquet file of many types

Run from the repository's root with datasets 5.2.0 and pyarrow 26.0.1: python tests/reference/make_data_files.py
"""

import datetime
import json
import shutil
import tempfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

datasets.disable_progress_bars()
FIXTURES = Path("tests/fixtures/data")
VALUES = Path("tests/reference/values/data_files.json")


def rows(first, count):
    return "".join(json.dumps({"id": index}) + "\n" for index in range(first, first + count))


CONFIGS = """---
license: mit
configs:
- config_name: plain
  data_files: plain/*.jsonl
- config_name: both
  default: true
  data_files:
  - split: train
    path: ["b/train-*.jsonl", "b/more.jsonl"]
  - split: held_out
    path: b/test.jsonl
- config_name: inside
  data_dir: c
---
# A card
"""

FOLDERS = {
    "slices": {"train.jsonl": rows(0, 37), "validation.jsonl": rows(100, 5)},
    "shards": {
        "data/train-00000-of-00002.jsonl": rows(0, 3),
        "data/train-00001-of-00002.jsonl": rows(3, 2),
        "data/test-00000-of-00001.jsonl": rows(10, 2),
    },
    "prefs": {
        "data/train_prefs-00000-of-00001.jsonl": rows(0, 3),
        "data/train_sft-00000-of-00001.jsonl": rows(10, 3),
        "data/test_prefs-00000-of-00001.jsonl": rows(20, 2),
    },
    "words": {"pairs-train.jsonl": rows(0, 2), "pairs-dev.jsonl": rows(10, 2), "constraint.jsonl": rows(20, 1)},
    "folders": {"train/0000.jsonl": rows(0, 2), "train/0001.jsonl": rows(2, 1), "valid/0000.jsonl": rows(10, 2)},
    "untold": {"b.jsonl": rows(5, 2), "a.jsonl": rows(0, 2)},
    "array": {"comparisons.json": json.dumps([{"id": 1}, {"id": 2}]), "dataset_infos.json": "{}"},
    "table": {"train.csv": "id,text\n1,a\n2,\"b\nc\"\n", "test.csv": "id,text\n3,x\n"},
    "configs": {
        "README.md": CONFIGS,
        "plain/x.jsonl": rows(0, 2),
        "b/train-1.jsonl": rows(10, 2),
        "b/train-2.jsonl": rows(12, 2),
        "b/more.jsonl": rows(20, 1),
        "b/test.jsonl": rows(30, 1),
        "c/train.jsonl": rows(40, 1),
        "c/test.jsonl": rows(50, 1),
    },
    "undecided": {
        "README.md": "---\nconfigs:\n- config_name: en\n  data_files: en.jsonl\n- config_name: de\n  data_files: de.jsonl\n---\n",
        "en.jsonl": rows(0, 1),
        "de.jsonl": rows(1, 1),
    },
    "single": {
        "README.md": "---\nconfigs:\n- config_name: en\n  data_files: en.jsonl\n---\n",
        "en.jsonl": rows(0, 1),
        "de.jsonl": rows(1, 1),
    },
}

SLICES = [
    "train", "train[:10]", "train[30:]", "train[-5:]", "train[:-30]", "train[5:9]", "train[:100]", "train[50:60]",
    "train[9:5]", "train[10%:20%]", "train[:33%]", "train[50%:]", "train[-10%:]", "train[:1%]", "train[:5%]",
    "train[1_0:1_2]", "train+validation", "train[:2]+validation[1:3]", "validation[:50%]", "validation[-50%:]",
    "validation[10%:30%]", "train[:101%]", "train[a:]", "train[3]", "valid!", "test",
]
CASES = [
    *[("slices", {"split": split}) for split in SLICES],
    ("shards", {"split": "train"}),
    ("shards", {"split": "test"}),
    ("shards", {"split": "validation"}),
    ("prefs", {"split": "train"}),
    ("prefs", {"split": "train_prefs"}),
    ("prefs", {"split": "train_prefs[:1]+test_prefs"}),
    ("words", {"split": "train"}),
    ("words", {"split": "validation"}),
    ("words", {"split": "test"}),
    ("folders", {"split": "train"}),
    ("folders", {"split": "validation[1:]"}),
    ("untold", {"split": "train"}),
    ("untold", {"split": "test"}),
    ("untold", {"split": "train", "data_files": "b.jsonl"}),
    ("untold", {"split": "train", "data_files": ["b.jsonl", "a.jsonl"]}),
    ("untold", {"split": "held", "data_files": {"train": "a.jsonl", "held": ["b.jsonl"]}}),
    ("untold", {"split": "train", "data_files": "c*.jsonl"}),
    ("shards", {"split": "train", "data_files": "**/test-*"}),
    ("shards", {"split": "train", "data_files": "data/*-0000[01]-of-00002.jsonl"}),
    ("array", {"split": "train"}),
    ("table", {"split": "train"}),
    ("table", {"split": "test"}),
    ("configs", {"split": "train"}),
    ("configs", {"split": "held_out"}),
    ("configs", {"split": "test"}),
    ("configs", {"split": "train", "name": "plain"}),
    ("configs", {"split": "train", "name": "inside"}),
    ("configs", {"split": "test", "name": "inside"}),
    ("configs", {"split": "train", "name": "none"}),
    ("undecided", {"split": "train"}),
    ("undecided", {"split": "train", "name": "de"}),
    ("single", {"split": "train"}),
]


def load(folder, request):
    with tempfile.TemporaryDirectory() as cache:
        try:
            loaded = datasets.load_dataset(str(folder), cache_dir=cache, **request)
        except Exception as error:  # whatever it is, it is a refusal
            print(folder.name, request, type(error).__name__, str(error)[:80])
            return None
        return [int(index) for index in loaded["id"]]


def make_values():
    cases = []
    with tempfile.TemporaryDirectory() as root:
        for name, files in FOLDERS.items():
            for path, text in files.items():
                file = Path(root, name, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        for folder, request in CASES:
            cases.append({"folder": folder, "request": request, "ids": load(Path(root, folder), request)})
    lines = ",\n".join("    " + json.dumps(case) for case in cases)
    VALUES.write_text(f'{{\n  "folders": {json.dumps(FOLDERS)},\n  "cases": [\n{lines}\n  ]\n}}\n')


def turn(role, content, name=None):
    return {"role": role, "content": content, "name": name}


def make_saved():
    table = [
        {
            "prompt": [turn("user", f"question {index}", "ann" if index == 1 else None)],
            "chosen": [turn("assistant", f"good {index} 🙂")],
            "rejected": [turn("assistant", f"bad {index}")],
            "score": float("nan") if index == 2 else 0.5,
            "id": 2**60 + index,
            "kind": None if index == 3 else "a",
        }
        for index in range(5)
    ]
    saved = datasets.Dataset.from_list(table)
    saved.save_to_disk(FIXTURES / "saved", num_shards=2)
    datasets.DatasetDict({"train": saved.select([0, 1, 2]), "test": saved.select([3, 4])}).save_to_disk(FIXTURES / "dict")
    # A dictionary, large strings and two batches, as a stream and as a file.
    types = pa.table({
        "prompt": pa.array(["a", "b", "a"]).dictionary_encode(),
        "chosen": pa.array(["x", "y", None], pa.large_string()),
        "rejected": pa.array(["z", "z", "z"], pa.string_view()),
        "day": pa.array([datetime.date(2026, 1, 2), None, None]),
    })
    for name, open_writer in {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}.items():
        with open_writer(FIXTURES / f"{name}.arrow", types.schema) as writer:
            writer.write_table(types, max_chunksize=2)
    with pa.ipc.new_stream(
        FIXTURES / "zstd.arrow", types.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_table(types)


def make_types():
    table = pa.table({
        "prompt": pa.array(["a", "b", "a"]).dictionary_encode(),
        "chosen": pa.array(["x", "y", None], pa.large_string()),
        "rejected": pa.array(["z", "z", "z"]),
        "turns": pa.array([[turn("user", "a")], [], None], pa.large_list(pa.struct(
            [("role", pa.string()), ("content", pa.large_string()), ("name", pa.string())]
        ))),
        "id": pa.array([2**40, -1, None], pa.int64()),
        "score": pa.array([0.5, float("nan"), None]),
        "day": pa.array([datetime.date(2026, 1, 2), None, None]),
        "time": pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5), None, None], pa.timestamp("ms")),
        "ok": pa.array([True, False, None]),
    })
    pq.write_table(table, FIXTURES / "types.parquet", compression="lz4")


shutil.rmtree(FIXTURES, ignore_errors=True)
FIXTURES.mkdir(parents=True)
make_values()
make_saved()
make_types()
