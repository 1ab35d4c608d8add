"""A record is read back as it was written, whatever texts and numbers it holds; predictions too."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from longread.records import RunRecord, read_runs, write_record
from longread.records.compact import compact
from longread.records.files import canonical
from longread.records.predictions import read_predictions, write_predictions

same = budget(max_examples=40, derandomize=True, deadline=None, database=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBER = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)
# Names that an earlier version used are read under today's.
CONFIG = st.dictionaries(TEXT.filter(lambda name: name != "label_column"), VALUE, max_size=5)


def record(config: dict[str, Any], task: str, metrics: dict[str, float], seed: int) -> RunRecord:
    return RunRecord(run_id="0123456789abcdef", kind="train", status="ok", task=task, attention="dense", init="scratch",
                     config=config, seed=seed, metrics=metrics)  # fmt: skip


@same
@given(CONFIG, TEXT, st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False)), st.integers(0, 2**62))
def test_a_record_is_read_as_it_was_written(
    config: dict[str, Any], task: str, metrics: dict[str, float], seed: int
) -> None:
    made = record(config, task, metrics, seed)
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder), made)
        (run,), damaged = read_runs(Path(folder))
        assert not damaged and run.record == made.to_json()
        assert run.record["config"] == config and run.record["metrics"] == metrics and run.record["seed"] == seed
        compact(Path(folder), Path(folder, "compact"))
        (again,), damaged = read_runs(Path(folder, "compact"))
        assert not damaged and again.record["config"] == config and again.record["metrics"] == metrics


@same
@given(CONFIG, st.randoms(use_true_random=False))
def test_the_order_of_a_configuration_is_no_part_of_its_name(config: dict[str, Any], random: Any) -> None:
    names = list(config)
    random.shuffle(names)
    assert canonical({name: config[name] for name in names}) == canonical(config)


@same
@given(st.integers(1, 30), st.integers(2, 5), st.data())
def test_predictions_are_read_as_they_were_written(rows: int, classes: int, data: st.DataObject) -> None:
    labels = data.draw(arrays.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    shares = data.draw(arrays.arrays(np.float32, (rows, classes), elements=st.floats(0.0625, 1, width=32)))
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "predictions.parquet")
        write_predictions(path, np.arange(rows)[::-1], labels, shares)
        found = read_predictions(path)
    np.testing.assert_array_equal(found["row"], np.arange(rows)[::-1])
    np.testing.assert_array_equal(found["label"], labels)
    np.testing.assert_array_equal(found["predicted"], shares.argmax(axis=1))
    np.testing.assert_array_equal(found["probabilities"], shares)
