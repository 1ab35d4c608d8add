"""Texts to classify, read block by block: a file of any size in constant memory, its order and its rows kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from longread.data.columns import check_unicode, obvious_texts
from longread.data.reading import TextFile, one_line
from longread.data.sources import LINES, check_format, short, told
from longread.errors import UserError

BLOCK = 1024  # rows that are read, classified and written together

T = TypeVar("T")
Row = tuple[str, Mapping[str, Any]]  # where it stands, for messages, and its values by column


@dataclass(frozen=True)
class Block:
    """Rows that follow each other. An empty text stays: every row of the input has its place in the output."""

    texts: list[str]
    pairs: list[str] | None = None
    ids: list[Any] | None = None  # of the id column, as the file has them

    def __len__(self) -> int:
        return len(self.texts)


def blocks_of_lines(lines: Iterable[str]) -> Iterator[Block]:
    """One text a line; blank lines are empty texts."""
    for part in _parts(lines):
        yield Block(part)


def blocks_of_file(
    path: Path,
    text_columns: Sequence[str] | None = None,
    id_column: str | None = None,
    *,
    usual: Sequence[str] = (),
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Iterator[Block]:
    """Rows of a table, or lines of a .txt file.

    text_columns: one, or two for pairs; default `usual` (the columns of training) if the file has them, else the
    obvious ones. UserError for a file, a column or a value that cannot be read; it names the row.
    """
    source = str(path)
    with told(source):
        ending = check_format(path, source, lines=True)
        file = TextFile(path, ending, source, encoding, delimiter)
        if ending in LINES:
            if text_columns or id_column:
                option = "--text-columns" if text_columns else "--id-column"
                raise UserError(f"{option}: {source} has no columns, one text a line; leave it out, or give a table")
            yield from blocks_of_lines(line for _, line in file.lines())
            return
        read = _parquet if ending == ".parquet" else _objects if ".jsonl" in ending else _delimited
        names, rows_of = read(file)
        texts = _columns(source, names, text_columns, usual)
        if id_column is not None and id_column not in names:
            raise UserError(f"{source}: there is no column {id_column!r}; the columns there are: {', '.join(names)}")
        needed = dict.fromkeys((*texts, *((id_column,) if id_column else ())))
        for part in _parts(rows_of(list(needed))):
            found = [[_text(values.get(name), place, name) for place, values in part] for name in texts]
            ids = [values.get(id_column) for _, values in part] if id_column else None
            yield Block(found[0], found[1] if len(found) == 2 else None, ids)


def _parts(rows: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(rows)
    while part := list(islice(rest, BLOCK)):
        yield part


def _columns(source: str, names: list[str], given: Sequence[str] | None, usual: Sequence[str]) -> tuple[str, ...]:
    there = f"the columns there are: {', '.join(names)}"
    chosen = tuple(given) if given else tuple(usual) if usual and set(usual) <= set(names) else obvious_texts(names)
    if chosen is None or len(chosen) > 2:
        raise UserError(f"{source}: name one text column, or two, with --text-columns; {there}")
    for name in chosen:
        if name not in names:
            raise UserError(f"{source}: there is no column {name!r}; {there}")
    return chosen


def _text(value: Any, place: str, column: str) -> str:
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{place}: column {column!r} holds {short(value)} where text is expected")
    check_unicode(value, place, column)
    return value


RowsOf = Callable[[list[str]], Iterator[Row]]


def _delimited(file: TextFile) -> tuple[list[str], RowsOf]:
    cells = file.cells()
    _, header = next(cells, (1, []))
    if doubled := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{file.source}: column {doubled[0]!r} is there twice; rename one")
    rows = ((f"{file.source}, line {line}", dict(zip(header, row, strict=True))) for line, row in cells)
    return header, lambda _: rows


def _objects(file: TextFile) -> tuple[list[str], RowsOf]:
    """The names are those of the first block."""
    objects = file.objects()
    head = list(islice(objects, BLOCK))
    names = list(dict.fromkeys(name for _, record in head for name in record))
    return names, lambda _: ((f"{file.source}, line {line}", record) for line, record in chain(head, objects))


def _parquet(file: TextFile) -> tuple[list[str], RowsOf]:
    import pyarrow
    import pyarrow.parquet

    def broken(error: Exception) -> UserError:
        return UserError(f"{file.source}: not a whole Parquet file ({one_line(error)}); write it again")

    try:
        table = pyarrow.parquet.ParquetFile(file.path)
    except pyarrow.ArrowException as error:
        raise broken(error) from error

    def rows(columns: list[str]) -> Iterator[Row]:
        number = 0
        try:
            for batch in table.iter_batches(BLOCK, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{file.source}, row {number}", record
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise broken(error) from error

    return list(table.schema_arrow.names), rows
