"""The files that predictions are written to, as bytes: one piece for each block of rows, each packed by itself.

Pieces that are put one behind the other are the file. So an interrupted file can go on behind its last piece, and is
the same in the end as one that was written without a stop.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from longread.errors import UserError
from longread.inference.answers import Answer
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

TEXT = (".jsonl", ".csv", ".tsv")
COMPRESSIONS = (".gz", ".zst", ".bz2")
OUTPUTS_IN_WORDS = ".jsonl, .csv, .tsv (also with .gz, .zst or .bz2) or .parquet"
SEPARATOR = ";"  # between several labels in a cell, unless a label holds one
ROWS_OF_A_GROUP = 1 << 16  # of a Parquet file


class Format(Protocol):
    """How answers become a file."""

    @property
    def header(self) -> bytes:
        """What stands before the first block."""

    def block(self, answers: Sequence[Answer]) -> bytes:
        """These answers, to be put behind those before."""

    def finish(self, part: Path, out: Path) -> None:
        """`part`, which is whole, becomes `out`."""


@dataclass(frozen=True)
class Columns:
    """Of a row's answer: its number, the columns of the input that are `kept`, what the model says, what it read."""

    label_names: Sequence[str]
    kept: Sequence[str] = ()
    problem_type: ProblemType = SINGLE_LABEL

    @property
    def probabilities(self) -> list[str]:
        return [] if self.problem_type == REGRESSION else [f"probability_{name}" for name in self.label_names]

    def names(self) -> list[str]:
        said = {REGRESSION: "value", MULTI_LABEL: "labels", SINGLE_LABEL: "label"}[self.problem_type]
        return ["row", *self.kept, said, *self.probabilities, "tokens", "tokens_in_text", "why"]

    def cells(self, answer: Answer) -> list[Any]:
        found = answer.prediction
        said, *_ = found.answer(self.problem_type).values()
        probabilities = [found.probabilities.get(name) for name in self.label_names] if self.probabilities else []
        read = (found.tokens, found.tokens_in_text)
        return [answer.row, *answer.kept, said, *probabilities, *read, found.why]

    def line(self, answer: Answer) -> str:
        """The same as an object of JSON."""
        found = answer.prediction
        line: dict[str, Any] = {"row": answer.row} | dict(zip(self.kept, answer.kept, strict=True))
        line |= found.answer(self.problem_type)
        line |= {"tokens": found.tokens, "tokens_in_text": found.tokens_in_text}
        if found.why is not None:
            line["why"] = found.why
        return json.dumps(line, ensure_ascii=False, default=str)


def format_of(out: Path, columns: Columns) -> Format:
    """By the ending of `out`. UserError for an ending, or a column that is kept under a name that clashes."""
    ending, compression = check_output(out)
    taken = {*replace(columns, kept=()).names(), "probabilities"} & set(columns.kept)
    if taken:
        raise UserError(f"column {min(taken)!r} cannot be kept: predict writes one of this name; rename it in the file")
    if ending == ".parquet":
        return Table(columns)
    if ending == ".jsonl":
        return JsonLines(columns, compression)
    return Delimited(columns, "\t" if ending == ".tsv" else ",", compression)


def check_output(out: Path) -> tuple[str, str]:
    """Its ending, such as .csv, and that of its compression, or "". UserError for any other."""
    name = out.name.lower()
    compression = next((packed for packed in COMPRESSIONS if name.endswith(packed)), "")
    ending = Path(name.removesuffix(compression)).suffix
    if ending not in TEXT and (ending != ".parquet" or compression):
        raise UserError(f"--out {out}: give a name that ends in {OUTPUTS_IN_WORDS}")
    if out.is_dir():
        raise UserError(f"--out {out}: is a directory; give a file")
    return ending, compression


def pack(data: bytes, compression: str) -> bytes:
    """One whole member or frame: several, one behind the other, are a file of this compression, too."""
    if not compression or not data:
        return data
    if compression == ".gz":
        return gzip.compress(data, compresslevel=6, mtime=0)
    if compression == ".bz2":
        return bz2.compress(data)
    import pyarrow

    return pyarrow.compress(data, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


class JsonLines:
    """One object a row."""

    header = b""

    def __init__(self, columns: Columns, compression: str) -> None:
        self._columns, self._compression = columns, compression

    def block(self, answers: Sequence[Answer]) -> bytes:
        text = "".join(self._columns.line(one) + "\n" for one in answers)
        return pack(text.encode(), self._compression)

    def finish(self, part: Path, out: Path) -> None:
        os.replace(part, out)


class Delimited:
    """A table with a line for each row, the first one names the columns.

    Several labels stand in one cell, between separators; as a list of JSON where a label of the model holds one.
    """

    def __init__(self, columns: Columns, delimiter: str, compression: str) -> None:
        self._columns, self._delimiter, self._compression = columns, delimiter, compression
        self._as_json = any(SEPARATOR in name for name in columns.label_names)
        self.header = self._packed([columns.names()])

    def block(self, answers: Sequence[Answer]) -> bytes:
        rows = (self._columns.cells(one) for one in answers)
        return self._packed([[self._several(cell) if isinstance(cell, list) else cell for cell in row] for row in rows])

    def _several(self, labels: list[str]) -> str:
        return json.dumps(labels, ensure_ascii=False) if self._as_json else SEPARATOR.join(labels)

    def _packed(self, rows: list[list[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self._delimiter).writerows(rows)
        return pack(text.getvalue().encode(), self._compression)

    def finish(self, part: Path, out: Path) -> None:
        os.replace(part, out)


class Table:
    """Parquet. Its pieces are Arrow's record batches: a Parquet file cannot be gone on with before it is whole.

    Columns that are kept are text here: one column of a JSON Lines file may hold values of several types.
    """

    def __init__(self, columns: Columns) -> None:
        import pyarrow as pa

        types = {"row": pa.int64(), "tokens": pa.int64(), "tokens_in_text": pa.int64()}
        types |= {"value": pa.float64(), "labels": pa.list_(pa.string())}
        types |= dict.fromkeys(columns.probabilities, pa.float32())
        self._columns = columns
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in columns.names()])
        self.header = self._schema.serialize().to_pybytes()

    def block(self, answers: Sequence[Answer]) -> bytes:
        import pyarrow as pa

        texts = [one._replace(kept=tuple(None if v is None else str(v) for v in one.kept)) for one in answers]
        columns = zip(*(self._columns.cells(one) for one in texts), strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        return pa.record_batch(arrays, schema=self._schema).serialize().to_pybytes()  # type: ignore[no-any-return]

    def finish(self, part: Path, out: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        whole = part.with_name(part.name + ".parquet")
        try:
            with (
                part.open("rb") as file,
                pa.ipc.open_stream(file) as batches,
                pq.ParquetWriter(whole, self._schema, compression="zstd") as writer,
            ):
                group: list[Any] = []
                for batch in batches:
                    group.append(batch)
                    if sum(map(len, group)) >= ROWS_OF_A_GROUP:
                        writer.write_table(pa.Table.from_batches(group))
                        group = []
                if group:
                    writer.write_table(pa.Table.from_batches(group))
            os.replace(whole, out)
        finally:
            whole.unlink(missing_ok=True)
        part.unlink()
