"""Makes the Parquet files under tests/fixtures/parquet/: the same five preference rows in every shape.

Run from the repository's root with pyarrow 26.0.1: python tests/reference/make_parquet.py
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path("tests/fixtures/parquet")
PROMPTS = ["one", "zwei ü", "三", "", "five 🙂"]


def turn(role, content, name=None):
    return {"role": role, "content": content, "name": name}


messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())]))
schema = pa.schema([
    ("prompt", messages), ("chosen", messages), ("rejected", messages), ("score", pa.float64()), ("id", pa.int64()),
])
conversations = pa.Table.from_pylist([
    {
        "prompt": [turn("system", "Be brief."), turn("user", prompt, "ann" if index == 1 else None)],
        "chosen": [turn("assistant", f"good {index}")],
        "rejected": [turn("assistant", f"bad {index}")],
        "score": 0.5,
        "id": index,
    }
    for index, prompt in enumerate(PROMPTS)
], schema=schema)
strings = pa.table({
    "prompt": PROMPTS,
    "chosen": [f"good {index}" for index in range(5)],
    "rejected": [f"bad {index}" for index in range(5)],
    "notes": ["unused"] * 5,
})

for codec in ["none", "snappy", "zstd", "gzip", "brotli", "lz4"]:
    pq.write_table(strings, FOLDER / f"{codec}.parquet", compression=codec, row_group_size=2)
# As the hub lays a data set out, one split in two shards; delta-encoded pages of the second version.
hub = FOLDER / "hub" / "data"
hub.mkdir(parents=True, exist_ok=True)
pq.write_table(conversations.slice(0, 3), hub / "train-00000-of-00002.parquet", row_group_size=2)
pq.write_table(conversations.slice(3), hub / "train-00001-of-00002.parquet", data_page_version="2.0")
pq.write_table(conversations.slice(4), hub / "test-00000-of-00001.parquet")
# A row that is no pair, in the second row group, and a column that is no text.
pq.write_table(
    pa.table({"prompt": ["a", "b", "c"], "chosen": ["x", "y", None], "rejected": ["x", "y", "z"]}),
    FOLDER / "broken_row.parquet", row_group_size=2,
)
pq.write_table(pa.table({"text": pa.array([1, 2])}), FOLDER / "numbers.parquet")
pq.write_table(pa.table({"question": ["a"]}), FOLDER / "other_columns.parquet")
# With a CRC in every page's header: pages with and without a dictionary, of both versions.
for version in ["1.0", "2.0"]:
    pq.write_table(
        strings, FOLDER / f"crc_{version[0]}.parquet", compression="snappy", row_group_size=3,
        data_page_version=version, use_dictionary=["notes", "prompt"], write_page_checksum=True,
    )
