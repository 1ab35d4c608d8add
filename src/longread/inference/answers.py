"""Predictions for a stream of texts, and the files they are written to."""

from __future__ import annotations

import csv
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from longread.data.stream import Block
from longread.errors import UserError
from longread.inference.predictor import Prediction, Predictor

log = logging.getLogger("longread")

PROGRESS_SECONDS = 10.0
OUTPUTS = (".jsonl", ".csv", ".parquet")

Answer = tuple[int, Any, Prediction]  # row of the input from 0, its id or None, what the model says
Write = Callable[[Sequence[Answer]], None]


def answer(predictor: Predictor, blocks: Iterable[Block], pair: str | None = None) -> Iterator[list[Answer]]:
    """One answer for each row, in order, block by block. `pair`: the second text of every row.

    A line of progress every 10 seconds; at the end, how many texts were empty or cut.

    UserError where nothing was given.
    """
    begin = said = time.monotonic()
    done = empty = cut = 0
    for block in blocks:
        if pair is not None and block.pairs is not None:
            raise UserError("--pair: the file has two text columns already; leave it out, or name one --text-columns")
        pairs = block.pairs if pair is None else [pair] * len(block)
        found = predictor.predict(block.texts, pairs)
        ids = block.ids or [None] * len(block)
        yield [(done + row, ids[row], prediction) for row, prediction in enumerate(found)]
        done += len(block)
        empty += sum(prediction.label is None for prediction in found)
        cut += sum(prediction.truncated for prediction in found)
        if (now := time.monotonic()) - said >= PROGRESS_SECONDS:
            log.info("%s texts, %.0f a second", f"{done:,}", done / (now - begin))
            said = now
    if not done:
        raise UserError("nothing to classify: give texts, --file with rows, or lines on standard input")
    if empty:
        log.warning("%s of %s texts are empty and have no label", f"{empty:,}", f"{done:,}")
    if cut:
        log.warning("%s of %s texts are longer than the model reads and were cut", f"{cut:,}", f"{done:,}")


def check_output(out: Path) -> None:
    if out.suffix.lower() not in OUTPUTS:
        raise UserError(f"--out {out}: give a name that ends in {', '.join(OUTPUTS)}")
    if out.is_dir():
        raise UserError(f"--out {out}: is a directory; give a file")


@contextmanager
def output(out: Path, names: Sequence[str], id_column: str | None) -> Iterator[Write]:
    """Writes to `out`, which appears whole or not at all: JSON lines, or a table with one row for each text."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    writer = {".jsonl": _lines, ".csv": _csv, ".parquet": _parquet}[out.suffix.lower()]
    try:
        with writer(part, names, id_column) as write:
            yield write
        os.replace(part, out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def json_line(found: Answer, id_column: str | None) -> str:
    row, own, prediction = found
    line: dict[str, Any] = {"row": row}
    if id_column is not None:
        line[id_column] = own
    line |= {"label": prediction.label, "probabilities": prediction.probabilities}
    line |= {"tokens": prediction.tokens, "tokens_in_text": prediction.tokens_in_text}
    if prediction.why is not None:
        line["why"] = prediction.why
    return json.dumps(line, ensure_ascii=False, default=str)


def write_lines(file: IO[str], id_column: str | None) -> Write:
    return lambda found: file.writelines(json_line(one, id_column) + "\n" for one in found)


@contextmanager
def _lines(path: Path, names: Sequence[str], id_column: str | None) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:
        yield write_lines(file, id_column)


def _header(names: Sequence[str], id_column: str | None) -> list[str]:
    own = [id_column] if id_column is not None else []
    return ["row", *own, "label", *(f"probability_{name}" for name in names), "tokens", "tokens_in_text", "why"]


def _cells(found: Answer, names: Sequence[str], id_column: str | None) -> list[Any]:
    row, own, prediction = found
    probabilities = [prediction.probabilities.get(name) for name in names]
    kept = [own] if id_column is not None else []
    return [row, *kept, prediction.label, *probabilities, prediction.tokens, prediction.tokens_in_text, prediction.why]


@contextmanager
def _csv(path: Path, names: Sequence[str], id_column: str | None) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_header(names, id_column))
        yield lambda found: writer.writerows(_cells(one, names, id_column) for one in found)


@contextmanager
def _parquet(path: Path, names: Sequence[str], id_column: str | None) -> Iterator[Write]:
    """The id is text here: a file of JSON lines may hold ids of several types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"row": pa.int64(), **dict.fromkeys(("tokens", "tokens_in_text"), pa.int64())} | {
        f"probability_{name}": pa.float32() for name in names
    }
    schema = pa.schema([(name, types.get(name, pa.string())) for name in _header(names, id_column)])

    def table(found: Sequence[Answer]) -> Any:
        given = [(row, None if own is None else str(own), prediction) for row, own, prediction in found]
        columns = zip(*(_cells(one, names, id_column) for one in given), strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema)

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield lambda found: writer.write_table(table(found))
