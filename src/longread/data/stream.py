"""Texts to classify, read block by block: a file of any size in constant memory, its order and its rows kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from longread.data.columns import named_texts, obvious_texts
from longread.data.reading import TextFile, check_unicode
from longread.data.shards import Opened, Shard, is_pattern, opened
from longread.data.sources import ARROW, LINES, check_format, short, told
from longread.errors import UserError, one_line

# Rows that are read, classified and written together: so many, or fewer where their texts have so many characters.
BLOCK = 1024
BLOCK_CHARACTERS = 1 << 19

log = logging.getLogger("longread")

T = TypeVar("T")
Row = tuple[str, Mapping[str, Any]]  # where it stands, for messages, and its values by column


@dataclass(frozen=True)
class Block:
    """Rows that follow each other. An empty text stays: every row of the input has its place in the output.

    kept: values of the columns that the output keeps, by name, as the file has them. read: how much of the input was
    read when the block was full, between 0 and 1, where it is known. first: which row of the input its first one is.
    """

    texts: list[str]
    pairs: list[str] | None = None
    kept: Mapping[str, list[Any]] = field(default_factory=dict)
    read: float | None = None
    first: int = 0

    def __len__(self) -> int:
        return len(self.texts)


def blocks_of_texts(texts: Iterable[str], pairs: Iterable[str] | None = None) -> Iterator[Block]:
    """Of a list, an array or a column of a data frame; of lines, too, read as they come."""
    rows = zip(texts, strict=True) if pairs is None else zip(texts, pairs, strict=True)
    for part in _parts(rows, lambda row: sum(map(len, row))):
        yield Block([row[0] for row in part], None if pairs is None else [row[1] for row in part])


def blocks_of_file(
    path: Path,
    text_columns: Sequence[str] | None = None,
    kept: Sequence[str] = (),
    *,
    usual: Sequence[str] = (),
    own_table: bool = False,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Iterator[Block]:
    """Rows of a table, or lines of a .txt file.

    text_columns: one, or two for pairs; default `usual` (the columns of training) if the file has them, else the
    obvious ones: those with a usual name, or the only one there is, and it is said which.
    own_table: `usual` are columns of the user's own table; the only column of a file is then read for no other one.
    kept: columns whose values go to the output. UserError for a file, a column or a value that cannot be read; it names
    the row.
    """
    source = str(path)
    with told(source), ExitStack() as stack:
        ending = check_file(path)
        file = TextFile(path, ending, source, encoding, delimiter)
        if ending in LINES:
            if text_columns or kept:
                option = "--text-columns" if text_columns else f"column {kept[0]!r}"
                raise UserError(f"{option}: {source} has no columns, one text a line; leave it out, or give a table")
            for block in blocks_of_texts(line for _, line in file.lines()):
                yield replace(block, read=file.position.fraction)
            return
        if ending in ARROW:
            reading = _arrow(stack.enter_context(opened(Shard(source, path, ending), None, None)))
        else:
            read = _parquet if ending == ".parquet" else _objects if ".jsonl" in ending else _delimited
            reading = read(file)
        names, rows_of, fraction = reading
        texts = _columns(source, names, text_columns, usual, own_table)
        for name in kept:
            if name not in names:
                raise UserError(f"{source}: there is no column {name!r}; the columns there are: {', '.join(names)}")

        def characters(row: Row) -> int:
            return sum(len(value) for name in texts if isinstance(value := row[1].get(name), str))

        for part in _parts(rows_of(list(dict.fromkeys((*texts, *kept)))), characters):
            found = [[_text(_there(values, name, place), place, name) for place, values in part] for name in texts]
            own = {name: [values.get(name) for _, values in part] for name in kept}
            yield Block(found[0], found[1] if len(found) == 2 else None, own, fraction())


def check_file(path: Path) -> str:
    """The ending of a file whose rows can be read block by block. UserError says what would do."""
    if is_pattern(str(path)):
        raise UserError(f"{path}: is a pattern, and one file is read at a time; name each by itself")
    return check_format(path, str(path), lines=True)


def _parts(rows: Iterable[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    part: list[T] = []
    total = 0
    for row in rows:
        part.append(row)
        total += characters(row)
        if len(part) == BLOCK or total >= BLOCK_CHARACTERS:
            yield part
            part, total = [], 0
    if part:
        yield part


def _columns(
    source: str, names: list[str], given: Sequence[str] | None, usual: Sequence[str], own_table: bool
) -> tuple[str, ...]:
    if not names:
        raise UserError(f"{source}: is empty; give a file with rows, and the names of its columns in the first line")
    there = f"the columns there are: {', '.join(names)}"
    chosen = tuple(given) if given else tuple(usual) if usual and set(usual) <= set(names) else obvious_texts(names)
    if chosen is None or len(chosen) > 2:
        raise UserError(f"{source}: name one text column, or two, with --text-columns; {there}")
    for name in chosen:
        if name not in names:
            raise UserError(f"{source}: there is no column {name!r}; {there}")
    if given or set(chosen) <= set(usual):
        return chosen
    named = named_texts(names) is not None
    if own_table and not named:
        also = ", or give the right --delimiter" if any(mark in chosen[0] for mark in ",;|\t") else ""
        raise UserError(
            f"{source}: there is no column {' and '.join(map(repr, usual))}, which the model was trained on; name "
            f"another with --text-columns{also}; {there}"
        )
    if usual or not named:
        log.info("%s: the texts are read from column %s", source, " and ".join(map(repr, chosen)))
    return chosen


def _there(values: Mapping[str, Any], name: str, place: str) -> Any:
    """UserError for a line of JSON that has no such key; one that holds null, or nothing, is an empty text."""
    if name not in values:
        raise UserError(f"{place}: has no {name!r}; its keys are: {', '.join(map(str, values)) or 'none'}")
    return values[name]


def _text(value: Any, place: str, column: str) -> str:
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{place}: column {column!r} holds {short(value)} where text is expected")
    check_unicode(value, place, column)
    return value


# The columns' names, the rows with some columns, and how much of the file is read.
Reading = tuple[list[str], Callable[[list[str]], Iterator[Row]], Callable[[], float | None]]


def _delimited(file: TextFile) -> Reading:
    cells = file.cells()
    _, header = next(cells, (1, []))
    if doubled := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{file.source}: column {doubled[0]!r} is there twice; rename one")
    rows = ((f"{file.source}, line {line}", dict(zip(header, row, strict=True))) for line, row in cells)
    return header, lambda _: rows, lambda: file.position.fraction


def _objects(file: TextFile) -> Reading:
    """The names are those of the first block."""
    objects = file.objects()
    head = list(islice(objects, BLOCK))
    names = list(dict.fromkeys(name for _, record in head for name in record))
    rows = ((f"{file.source}, line {line}", record) for line, record in chain(head, objects))
    return names, lambda _: rows, lambda: file.position.fraction


def _parquet(file: TextFile) -> Reading:
    import pyarrow
    import pyarrow.parquet

    def broken(error: Exception) -> UserError:
        return UserError(f"{file.source}: not a whole Parquet file ({one_line(error)}); write it again")

    try:
        table = pyarrow.parquet.ParquetFile(file.path, pre_buffer=False)  # no threads: predictions.py says why
    except pyarrow.ArrowException as error:
        raise broken(error) from error

    number = 0

    def rows(columns: list[str]) -> Iterator[Row]:
        nonlocal number
        try:
            for batch in table.iter_batches(BLOCK, columns=columns, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{file.source}, row {number}", record
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise broken(error) from error

    return list(table.schema_arrow.names), rows, lambda: number / max(1, table.metadata.num_rows)


def _arrow(file: Opened) -> Reading:
    def rows(columns: list[str]) -> Iterator[Row]:
        for table in file.blocks(columns):
            for row in range(len(table)):
                yield table.place(row), {name: values[row] for name, values in table.columns.items()}

    return file.names, rows, file.fraction
