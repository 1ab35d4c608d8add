"""Reading tables of rows: CSV, TSV, JSON Lines and Parquet files.

Everything a file can get wrong becomes a `UserError` that names the file and, where there is one, the line.
Text files go through the standard library: readers that guess types turn the word "NA" into a missing value
and the text "007" into a number.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longread.errors import UserError

TEXT_FORMATS = (".csv", ".tsv", ".jsonl")
COMPRESSIONS = (".gz", ".zst")
FORMATS = (".parquet", *TEXT_FORMATS, *(text + packed for text in TEXT_FORMATS for packed in COMPRESSIONS))
FORMATS_IN_WORDS = ".parquet, .csv, .tsv or .jsonl (the last three also as .gz or .zst)"


@dataclass(frozen=True)
class Table:
    """Columns of one file, or of several read one after the other."""

    source: str  # path or Hub address, for messages
    columns: dict[str, list[Any]]
    lines: list[int] | None = None  # line of the file on which each row begins; None where there are no lines
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # a Hub file's own names of classes

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, row: int) -> str:
        """Where row `row` (from 0) stands, as a person counts."""
        return f"{self.source}, line {self.lines[row]}" if self.lines else f"{self.source}, row {row + 1}"


def file_format(path: Path | str) -> str | None:
    """The ending of `path` if it is one that can be read, such as `.csv.gz`; otherwise None."""
    name = str(path).lower()
    return next((ending for ending in sorted(FORMATS, key=len, reverse=True) if name.endswith(ending)), None)


def find_split(directory: Path, split: str) -> Path | None:
    """`directory/split.<format>` in the first format there is."""
    return next((path for ending in FORMATS if (path := directory / f"{split}{ending}").is_file()), None)


def read_table(path: Path, source: str | None = None) -> Table:
    """Read one file. `source` is what messages call it (by default, its path)."""
    source = source or str(path)
    ending = file_format(path)
    if ending is None:
        raise UserError(f"{source}: this kind of file cannot be read; give a {FORMATS_IN_WORDS} file")
    try:
        if path.is_dir():
            raise UserError(f"{source}: is a directory; give a file")
        if not path.exists():
            raise UserError(f"{source}: there is no such file; check the path")
        if ending == ".parquet":
            table = _read_parquet(path, source)
        else:
            text = _decode(_read_bytes(path, ending), source)
            read = _read_jsonl if ".jsonl" in ending else _read_delimited
            table = read(text, source, "\t" if ".tsv" in ending else ",")
    except OSError as error:
        why = error.strerror or _one_line(error)
        raise UserError(f"{source}: cannot be read ({why}); check the file") from error
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
            raise UserError(f"{table.source}: its columns differ from those of {tables[0].source}; give one file")
    columns = {name: [value for table in tables for value in table.columns[name]] for name in names}
    return Table(source, columns, class_names=tables[0].class_names)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _read_bytes(path: Path, ending: str) -> bytes:
    if ending.endswith(".gz"):
        import gzip

        try:
            return gzip.decompress(path.read_bytes())
        except (EOFError, zlib.error) as error:  # a broken header is an OSError already
            raise OSError(f"broken gzip data: {_one_line(error)}") from error
    if ending.endswith(".zst"):
        import pyarrow

        with pyarrow.input_stream(str(path), compression="zstd") as stream:
            return bytes(stream.read())
    return path.read_bytes()


def _decode(data: bytes, source: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding, name, newline = "utf-16", "UTF-16", None
    else:
        encoding, name, newline = "utf-8-sig", "UTF-8", b"\n"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        where = f", line {data.count(newline, 0, error.start) + 1}" if newline else ""
        raise UserError(f"{source}{where}: this is not {name} text; save the file as UTF-8") from error


def _read_delimited(text: str, source: str, delimiter: str) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, cells in _cells(text, source, delimiter):
        if rows and len(cells) != len(rows[0]):
            raise UserError(
                f"{source}, line {line}: {len(cells)} cells where the header has {len(rows[0])}; "
                'put quotes (") around a text that holds a separator or a line break'
            )
        rows.append(cells)
        lines.append(line)
    if not rows:
        raise UserError(f"{source}: is empty; the first line should name the columns, such as text{delimiter!r}label")
    header = rows[0]
    if doubled := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{source}, line {lines[0]}: column {doubled[0]!r} is there twice; rename one")
    columns = {name: [row[index] for row in rows[1:]] for index, name in enumerate(header)}
    return Table(source, columns, lines[1:])


def _cells(text: str, source: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the line it begins on."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default, 131,072, is less than a long document
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        begin = 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UserError(
                    f"{source}, line {begin}: broken row ({_one_line(error)}); "
                    'a quote inside a quoted text is written twice ("")'
                ) from error
            if cells:
                yield begin, cells
            begin = reader.line_num + 1
    finally:
        csv.field_size_limit(before)


def _read_jsonl(text: str, source: str, _: str) -> Table:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    names: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would also split at U+2028 inside a text
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{source}, line {number}: not JSON ({_one_line(error)}); one object a line") from error
        if not isinstance(record, dict):
            raise UserError(f'{source}, line {number}: not an object; one {{"text": …, "label": …}} a line')
        records.append(record)
        lines.append(number)
        names.update(dict.fromkeys(record))
    return Table(source, {name: [record.get(name) for record in records] for name in names}, lines)


def _read_parquet(path: Path, source: str) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        columns = {name: table.column(index).to_pylist() for index, name in enumerate(table.column_names)}
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not a whole Parquet file ({_one_line(error)}); write it again") from error
    return Table(source, columns, class_names=_class_names(table.schema.metadata or {}))


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Names of classes that the `datasets` library keeps in a Parquet file's metadata."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: tuple(kind["names"]) for name, kind in features.items() if "names" in kind}
    except (ValueError, KeyError, TypeError):
        return {}


def short(value: Any) -> str:
    """A value in a message, cut to 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
