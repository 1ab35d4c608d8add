"""Tables of rows: CSV, TSV, JSON Lines and Parquet files, read whole.

Everything a file can get wrong becomes a `UserError` that names the file and, where there is one, the line.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from longread.data.limits import Holding
from longread.data.reading import COMPRESSIONS, SPREADSHEETS, TextFile
from longread.errors import UserError, one_line

TEXT_FORMATS = (".csv", ".tsv", ".jsonl")
FORMATS = (".parquet", *TEXT_FORMATS, *(text + packed for text in TEXT_FORMATS for packed in COMPRESSIONS))
FORMATS_IN_WORDS = ".parquet, .arrow, .csv, .tsv or .jsonl (the last three also as .gz, .zst, .bz2 or .xz)"
ARROW = (".arrow", ".feather")  # of Arrow's IPC format, as a stream or as a file; never read whole
BLOCK = 1024  # rows of a Parquet file that are decoded at once
LINES = (".txt", *(".txt" + packed for packed in COMPRESSIONS))  # one text a line; to classify, not to train on


@dataclass(frozen=True)
class Table:
    """Columns of one file, or of several read one after the other."""

    source: str  # path or Hub address, for messages
    columns: dict[str, list[Any]]
    lines: list[int] | None = None  # line of the file on which each row begins; None where there are no lines
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # a Hub file's own names of classes
    parts: tuple[Table, ...] = ()  # the files that the rows are from, one after the other
    first: int = 0  # rows of the file that stand before these
    places: tuple[str, ...] = ()  # of the different values of a longer table: where each of them stands first
    total: int | None = None  # rows of that table

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, row: int) -> str:
        """Where row `row` (from 0) stands, as a person counts."""
        if self.places:
            return self.places[row]
        for part in self.parts:
            if row < len(part):
                return part.place(row)
            row -= len(part)
        return f"{self.source}, line {self.lines[row]}" if self.lines else f"{self.source}, row {self.first + row + 1}"


def file_format(path: Path | str, *, arrow: bool = True) -> str | None:
    """The ending of `path` if it is one that can be read, such as `.csv.gz`; otherwise None."""
    name, formats = str(path).lower(), (*FORMATS, *(ARROW if arrow else ()))
    return next((ending for ending in sorted(formats, key=len, reverse=True) if name.endswith(ending)), None)


def find_split(directory: Path, split: str) -> list[Path]:
    """`directory/split.<format>` in the first format there is, or its shards `split-00000-of-00003.<format>` in order.

    Nothing where there is neither. UserError where a shard is missing.
    """
    if whole := [path for ending in (*FORMATS, *ARROW) if (path := directory / f"{split}{ending}").is_file()]:
        return whole[:1]
    shard = re.compile(rf"{re.escape(split)}-(\d+)-of-(\d+)(\..+)")
    found = sorted(
        (match[3], int(match[2]), int(match[1]), path)
        for path in directory.iterdir()
        if (match := shard.fullmatch(path.name)) and file_format(path) == match[3].lower()
    )
    if found:
        ending, count, first, _ = found[0]
        right = first < 2 and len(found) == count
        if not right or any(own[:3] != (ending, count, first + place) for place, own in enumerate(found)):
            there = ", ".join(path.name for *_, path in found[:5])
            raise UserError(
                f"{directory}: split {split!r} is to have {count} shards *-of-*{ending}, each once, and has {there}"
            )
    return [path for *_, path in found]


def check_format(path: Path, source: str, *, lines: bool = False, arrow: bool = True) -> str:
    """The ending of a file that can be read. With `lines`, plain text too. UserError says what would do."""
    if path.is_dir():
        raise UserError(f"{source}: is a directory; give a file")
    ending = file_format(path, arrow=arrow)
    if ending is None and lines and (name := path.name.lower()).endswith(LINES):
        ending = next(known for known in LINES if name.endswith(known))
    if ending is None and path.suffix.lower() in SPREADSHEETS:
        raise UserError(f"{source}: a spreadsheet; save it as CSV (UTF-8) from the program that made it")
    if ending is None:
        also = " or .txt" if lines else ""
        raise UserError(f"{source}: this kind of file cannot be read; give a {FORMATS_IN_WORDS}{also} file")
    if not path.exists():
        raise UserError(f"{source}: there is no such file; check the path")
    if not path.is_file():  # it would be read twice, and may never end
        raise UserError(f"{source}: is a pipe or a device; write what it gives to a file first")
    return ending


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def told(source: str) -> Iterator[None]:
    """What the system says of a file becomes a UserError that names it."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:  # where rows are kept, not the file that is read
            raise
        why = error.strerror or one_line(error)
        raise UserError(f"{source}: cannot be read ({why}); check the file") from error


def read_table(
    path: Path, source: str | None = None, encoding: str | None = None, delimiter: str | None = None
) -> Table:
    """Read one file. `source` is what messages call it (by default, its path)."""
    source = source or str(path)
    with told(source):
        ending = check_format(path, source, arrow=False)
        if ending == ".parquet":
            table = _read_parquet(path, source)
        else:
            read = _read_jsonl if ".jsonl" in ending else _read_delimited
            table = read(TextFile(path, ending, source, encoding, delimiter, held=True))
    if not len(table):
        raise UserError(f"{source}: is empty; at least a few rows of text and label are needed")
    return table


def concatenate(tables: list[Table], source: str) -> Table:
    """The shards of one split as one table; they must have the same columns."""
    if len(tables) == 1:
        return tables[0]
    names = tables[0].columns.keys()
    for table in tables[1:]:
        if table.columns.keys() != names:
            raise UserError(
                f"{table.source}: its columns differ from those of {tables[0].source}; give the same to both"
            )
    columns = {name: [value for table in tables for value in table.columns[name]] for name in names}
    places = tuple(replace(table, columns=dict(list(table.columns.items())[:1])) for table in tables)
    return Table(source, columns, class_names=tables[0].class_names, parts=places)


def _read_delimited(file: TextFile) -> Table:
    rows = list(file.cells())
    if not rows:
        raise UserError(f"{file.source}: is empty; the first line should name the columns, such as text,label")
    line, header = rows[0]
    if doubled := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{file.source}, line {line}: column {doubled[0]!r} is there twice; rename one")
    columns = {name: [cells[index] for _, cells in rows[1:]] for index, name in enumerate(header)}
    return Table(file.source, columns, [line for line, _ in rows[1:]])


def _read_jsonl(file: TextFile) -> Table:
    found = list(file.objects())
    names = dict.fromkeys(name for _, record in found for name in record)
    columns = {name: [record.get(name) for _, record in found] for name in names}
    return Table(file.source, columns, [line for line, _ in found])


def _read_parquet(path: Path, source: str) -> Table:
    import pyarrow
    import pyarrow.parquet

    holding = Holding(source)
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:  # no threads: predictions.py says why
            names = list(file.schema_arrow.names)
            if doubled := [name for name in names if names.count(name) > 1]:
                raise UserError(f"{source}: column {doubled[0]!r} is there twice; rename one")
            columns: dict[str, list[Any]] = {name: [] for name in names}
            for batch in file.iter_batches(BLOCK, use_threads=False):
                holding.add(batch.nbytes)
                for name, column in zip(names, batch.columns, strict=True):
                    columns[name].extend(column.to_pylist())
            metadata = file.schema_arrow.metadata or {}
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not a whole Parquet file ({one_line(error)}); write it again") from error
    return Table(source, columns, class_names=class_names_in(metadata))


def class_names_in(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Names of classes that the `datasets` library keeps in a Parquet file's metadata."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: tuple(kind["names"]) for name, kind in features.items() if "names" in kind}
    except (ValueError, KeyError, TypeError):
        return {}


def short(value: Any, most: int = 40) -> str:
    """A value in a message, cut to so many characters."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."
