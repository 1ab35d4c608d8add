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
from pathlib import Path
from typing import Any, Protocol

from longread.errors import UserError
from longread.inference.answers import Answer

TEXT = (".jsonl", ".csv", ".tsv")
COMPRESSIONS = (".gz", ".zst", ".bz2")
OUTPUTS_IN_WORDS = ".jsonl, .csv, .tsv (also with .gz, .zst or .bz2) or .parquet"
OWN_COLUMNS = ("row", "label", "probabilities", "tokens", "tokens_in_text", "why")
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


def format_of(out: Path, label_names: Sequence[str], kept: Sequence[str]) -> Format:
    """By the ending of `out`. kept: names of columns of the input. UserError for an ending or a name that clashes."""
    ending, compression = check_output(out)
    taken = {*OWN_COLUMNS, *(f"probability_{name}" for name in label_names)} & set(kept)
    if taken:
        raise UserError(f"column {min(taken)!r} cannot be kept: predict writes one of this name; rename it in the file")
    if ending == ".parquet":
        return Table(label_names, kept)
    if ending == ".jsonl":
        return JsonLines(kept, compression)
    return Delimited(label_names, kept, "\t" if ending == ".tsv" else ",", compression)


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


def json_line(answer: Answer, kept: Sequence[str]) -> str:
    prediction = answer.prediction
    line: dict[str, Any] = {"row": answer.row} | dict(zip(kept, answer.kept, strict=True))
    line |= {"label": prediction.label, "probabilities": prediction.probabilities}
    line |= {"tokens": prediction.tokens, "tokens_in_text": prediction.tokens_in_text}
    if prediction.why is not None:
        line["why"] = prediction.why
    return json.dumps(line, ensure_ascii=False, default=str)


class JsonLines:
    """One object a row."""

    header = b""

    def __init__(self, kept: Sequence[str], compression: str) -> None:
        self._kept, self._compression = kept, compression

    def block(self, answers: Sequence[Answer]) -> bytes:
        text = "".join(json_line(one, self._kept) + "\n" for one in answers)
        return pack(text.encode(), self._compression)

    def finish(self, part: Path, out: Path) -> None:
        os.replace(part, out)


def columns_of(label_names: Sequence[str], kept: Sequence[str]) -> list[str]:
    return ["row", *kept, "label", *(f"probability_{name}" for name in label_names), "tokens", "tokens_in_text", "why"]


def cells_of(answer: Answer, label_names: Sequence[str]) -> list[Any]:
    prediction = answer.prediction
    probabilities = [prediction.probabilities.get(name) for name in label_names]
    read = (prediction.tokens, prediction.tokens_in_text)
    return [answer.row, *answer.kept, prediction.label, *probabilities, *read, prediction.why]


class Delimited:
    """A table with a line for each row, the first one names the columns."""

    def __init__(self, label_names: Sequence[str], kept: Sequence[str], delimiter: str, compression: str) -> None:
        self._names, self._delimiter, self._compression = label_names, delimiter, compression
        self.header = self._packed([columns_of(label_names, kept)])

    def block(self, answers: Sequence[Answer]) -> bytes:
        return self._packed([cells_of(one, self._names) for one in answers])

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

    def __init__(self, label_names: Sequence[str], kept: Sequence[str]) -> None:
        import pyarrow as pa

        types = {"row": pa.int64(), "tokens": pa.int64(), "tokens_in_text": pa.int64()}
        types |= {f"probability_{name}": pa.float32() for name in label_names}
        columns = columns_of(label_names, kept)
        self._names = label_names
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
        self.header = self._schema.serialize().to_pybytes()

    def block(self, answers: Sequence[Answer]) -> bytes:
        import pyarrow as pa

        texts = [one._replace(kept=tuple(None if v is None else str(v) for v in one.kept)) for one in answers]
        columns = zip(*(cells_of(one, self._names) for one in texts), strict=True)
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
