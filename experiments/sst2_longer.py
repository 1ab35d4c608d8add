"""SST-2's training rows of sixteen words and more, as a file of its own: python experiments/sst2_longer.py DIR FILE

Most of its training rows are phrases; its validation rows are sentences. See base_size.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FEWEST_WORDS = 16


def longer(rows: pa.Table) -> pa.Table:
    """`text` and `label` of the rows with enough words."""
    kept = rows.filter(pa.array([len(text.split()) >= FEWEST_WORDS for text in rows["sentence"].to_pylist()]))
    return kept.select(["sentence", "label"]).rename_columns(["text", "label"])


if __name__ == "__main__":
    data_dir, out = map(Path, sys.argv[1:])
    table = longer(pq.read_table(data_dir / "sst2" / "train.parquet"))
    pq.write_table(table, out)
    print(f"{out}: {table.num_rows} rows")
