"""Predictions as Parquet: a file for one run, or one file for all runs of a study on the same rows.

A run's own file has the columns row, label, predicted, probability_0 … A shared file has row and label once, and for
each run `RUN_ID/predicted` and `RUN_ID/probability_0` …; there the probability of the predicted class is left out where
it is what the others leave of 1, which halves a file of two classes and loses nothing.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from longread.records.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

    Predicted = dict[str, np.ndarray]  # row, label, predicted [R] and probabilities [R, C]

SUM_IS_ONE = 1e-6  # float32: what rounding leaves between a row's probabilities and 1


def write_predictions(path: Path, rows: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Parquet with columns row, label, predicted, probability_0 … (probabilities [R, C])."""
    import pyarrow as pa

    columns = {"row": rows, "label": labels, "predicted": probabilities.argmax(axis=1)}
    table = {name: pa.array(values, pa.int32()) for name, values in columns.items()}
    for index in range(probabilities.shape[1]):
        table[f"probability_{index}"] = pa.array(probabilities[:, index], pa.float32())
    _write(path, table)


def read_predictions(path: Path) -> Predicted:
    """A run's own file. OSError or ArrowInvalid where it is damaged."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    result = {name: table[name].to_numpy() for name in ("row", "label", "predicted")}
    names = [name for name in table.column_names if name.startswith("probability_")]
    result["probabilities"] = np.stack([table[name].to_numpy() for name in names], axis=1)
    return result


def write_shared(path: Path, runs: Mapping[str, Predicted]) -> None:
    """One file for runs (by id) whose `row` and `label` are equal."""
    import numpy as np
    import pyarrow as pa

    first = next(iter(runs.values()))
    table = {name: pa.array(first[name], pa.int32()) for name in ("row", "label")}
    for name, found in runs.items():
        probabilities, predicted = found["probabilities"], found["predicted"]
        table[f"{name}/predicted"] = pa.array(predicted, pa.int32())
        left_out = np.zeros(probabilities.shape, dtype=bool)
        if len(predicted) and np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max() < SUM_IS_ONE:
            left_out[np.arange(len(predicted)), predicted] = True
        for index in range(probabilities.shape[1]):
            values = pa.array(probabilities[:, index], pa.float32(), mask=left_out[:, index])
            table[f"{name}/probability_{index}"] = values
    _write(path, table)


def read_shared(path: Path, run_id: str) -> Predicted | None:
    """One run's predictions from a shared file; None where the file has none of it."""
    import numpy as np
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        own = [name for name in file.schema_arrow.names if name.startswith(f"{run_id}/")]
        if not own:
            return None
        table = file.read(["row", "label", *own])
    result = {name: table[name].to_numpy() for name in ("row", "label")}
    result["predicted"] = table[f"{run_id}/predicted"].to_numpy()
    columns = [table[name] for name in own if "/probability_" in name]
    left_out = np.stack([column.is_null().to_numpy() for column in columns], axis=1)
    probabilities = np.stack([column.fill_null(0.0).to_numpy() for column in columns], axis=1)
    rest = 1 - probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    result["probabilities"] = np.where(left_out, rest, probabilities).astype(np.float32)
    return result


def _write(path: Path, columns: Mapping[str, object]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    probabilities = [name for name in columns if "probability_" in name]
    others = [name for name in columns if name not in probabilities]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", compression_level=19, use_dictionary=others,
                   use_byte_stream_split=probabilities)  # fmt: skip
    write_atomically(path, buffer.getvalue())
