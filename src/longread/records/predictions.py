"""Predictions as Parquet: a file for one run, or one file for all runs of a study on the same rows.

A run's own file has the columns row, label, predicted, probability_0 … (of several labels label_0, predicted_0 …, 0 or
1 each; of a regression no probabilities). A shared file has row and label once, and for each run `RUN_ID/predicted` and
`RUN_ID/probability_0` …; there the probability of the predicted class is left out where it is what the others leave of
1, and the others are rounded to 12 significant bits, which takes a third off the file. What was predicted stays.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longread.records.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

    Predicted = dict[str, np.ndarray]  # row [R], label and predicted [R] or [R, C], and probabilities [R, C] if any

SUM_IS_ONE = 1e-6  # float32: what rounding leaves between a row's probabilities and 1
ROUNDED_OFF = 12  # of the 24 significant bits of a float32, in a shared file: a relative error of at most 2 ** -12


def write_predictions(
    path: Path,
    rows: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray | None,
    predicted: np.ndarray | None = None,
) -> None:
    """labels and predicted [R] (integers, or numbers of a regression) or 0 and 1 [R, C]; probabilities [R, C] or None.

    predicted: None for the most probable class.
    """
    import pyarrow as pa

    if predicted is None:
        assert probabilities is not None
        predicted = probabilities.argmax(axis=1)

    table = {"row": pa.array(rows, pa.int32())}
    table |= _columns("label", labels) | _columns("predicted", predicted)
    if probabilities is not None:
        table |= {
            f"probability_{c}": pa.array(probabilities[:, c], pa.float32()) for c in range(probabilities.shape[1])
        }
    _write(path, table)


def _columns(name: str, values: np.ndarray) -> dict[str, Any]:
    """One column, or one for each label of several."""
    import numpy as np
    import pyarrow as pa

    if values.ndim == 2:
        return {f"{name}_{c}": pa.array(values[:, c], pa.int8()) for c in range(values.shape[1])}
    return {name: pa.array(values, pa.int32() if np.issubdtype(values.dtype, np.integer) else pa.float64())}


def _values(table: Any, name: str) -> np.ndarray:
    """The inverse: [R], or [R, C]."""
    import numpy as np

    if name in table.column_names:
        return table[name].to_numpy()  # type: ignore[no-any-return]
    several = [own for own in table.column_names if own.startswith(f"{name}_")]
    return np.stack([table[own].to_numpy() for own in several], axis=1)


def read_predictions(path: Path) -> Predicted:
    """A run's own file. OSError or ArrowInvalid where it is damaged."""
    import numpy as np
    import pyarrow.parquet as pq

    # No threads of Arrow's: where memory is short it waits for ever for one that could not start.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        table = file.read(use_threads=False)
    result = {name: _values(table, name) for name in ("row", "label", "predicted")}
    names = [name for name in table.column_names if name.startswith("probability_")]
    if names:
        result["probabilities"] = np.stack([table[name].to_numpy() for name in names], axis=1)
    return result


def write_shared(path: Path, runs: Mapping[str, Predicted]) -> None:
    """One file for runs (by id) whose `row` and `label` are equal."""
    import numpy as np
    import pyarrow as pa

    first = next(iter(runs.values()))
    table = {"row": pa.array(first["row"], pa.int32())} | _columns("label", first["label"])
    for name, found in runs.items():
        predicted, probabilities = found["predicted"], found.get("probabilities")
        table |= _columns(f"{name}/predicted", predicted)
        if probabilities is None:
            continue
        left_out = np.zeros(probabilities.shape, dtype=bool)
        several = predicted.ndim == 2
        if (
            not several
            and len(predicted)
            and np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max() < SUM_IS_ONE
        ):
            left_out[np.arange(len(predicted)), predicted] = True
        rounded = _rounded(probabilities)
        for index in range(rounded.shape[1]):
            values = pa.array(rounded[:, index], pa.float32(), mask=left_out[:, index])
            table[f"{name}/probability_{index}"] = values
    _write(path, table)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To the nearest float32 whose last ROUNDED_OFF bits are zero; NaN and infinity stay."""
    import numpy as np

    values = np.ascontiguousarray(values, dtype=np.float32)
    half = np.uint32(1 << (ROUNDED_OFF - 1))
    kept = ~np.uint32((1 << ROUNDED_OFF) - 1)
    nearest = ((values.view(np.uint32) + half) & kept).view(np.float32)
    return np.where(np.isfinite(values), nearest, values)


def read_shared(path: Path, run_id: str) -> Predicted | None:
    """One run's predictions from a shared file; None where the file has none of it."""
    import numpy as np
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        names = file.schema_arrow.names
        own = [name for name in names if name.startswith(f"{run_id}/")]
        if not own:
            return None
        shared = [name for name in names if "/" not in name]
        table = file.read([*shared, *own], use_threads=False)
    result = {name: _values(table, name) for name in ("row", "label")}
    result["predicted"] = _values(table, f"{run_id}/predicted")
    columns = [table[name] for name in own if "/probability_" in name]
    if not columns:
        return result
    left_out = np.stack([column.is_null().to_numpy() for column in columns], axis=1)
    probabilities = np.stack([column.fill_null(0.0).to_numpy() for column in columns], axis=1)
    if result["predicted"].ndim == 1:
        rest = 1 - probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
        probabilities = np.where(left_out, rest, probabilities)
    result["probabilities"] = probabilities.astype(np.float32)
    return result


def _write(path: Path, columns: Mapping[str, object]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Small above all: they are kept in a repository, and read whole.
    table = pa.table(columns)
    kinds = {"BYTE_STREAM_SPLIT": pa.types.is_floating, "DELTA_BINARY_PACKED": pa.types.is_integer}
    encodings = {field.name: how for field in table.schema for how, fits in kinds.items() if fits(field.type)}
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=22, use_dictionary=False,
                   column_encoding=encodings, write_statistics=False, store_schema=False)  # fmt: skip
    write_atomically(path, buffer.getvalue())
