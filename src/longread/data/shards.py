"""The files that one table is in: one, all of a folder, what a pattern names; on this machine, or behind a URL."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from longread.data.reading import TextFile
from longread.data.sources import ARROW, FORMATS_IN_WORDS, Table, check_format, class_names_in, file_format, told
from longread.errors import UserError, one_line

BLOCK, BLOCK_BYTES = 4096, 1 << 22  # rows that are held at once: so many, or fewer where they have so many bytes
BUFFER = 1 << 20  # bytes of each column of a Parquet file
LARGE = 2**30  # bytes of all files together above which they are not held in memory
URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs",
            "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko"}  # fmt: skip


@dataclass(frozen=True)
class Remote:
    """A file behind a URL, with as much of a Path as reading it takes."""

    system: Any
    path: str

    def open(self, mode: str = "rb") -> Any:
        return self.system.open(self.path, mode)

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_size=int(self.system.size(self.path) or 0))


@dataclass(frozen=True)
class Shard:
    """One file. `source` is what messages call it, `ending` its kind, such as `.csv.gz`."""

    source: str
    place: Path | Remote
    ending: str

    @property
    def size(self) -> int:
        with told(self.source):
            return int(self.place.stat().st_size)

    @property
    def streamed_alone(self) -> bool:
        """Whether it cannot be read into memory as a whole table."""
        return isinstance(self.place, Remote) or self.ending in ARROW

    def identity(self) -> str:
        """Changes when the file does: its place, size and times as the system has them, or what a store says of it."""
        with told(self.source):
            if isinstance(self.place, Remote):
                return f"{self.source} {self.place.system.ukey(self.place.path)}"
            stat = self.place.stat()
            own = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)
            return f"{_shown(self.place.resolve())} {own}"


def is_pattern(name: str) -> bool:
    return bool(URL.match(name)) or (glob.has_magic(name) and not Path(name).exists())


def shards_of(name: str) -> list[Shard]:
    """The files of a path, folder, pattern or URL, in the order of their names, numbers by their size.

    UserError where there are none, or of several kinds.
    """
    if name.startswith("file://"):
        name = name.removeprefix("file://")
    if URL.match(name):
        return _one_kind(name, _behind(name))
    if is_pattern(name):
        paths = [Path(path) for path in glob.glob(name, recursive=True)]
        if not paths:
            raise UserError(f"{name}: no file matches this pattern; check it, and the folder that it is in")
        return local_shards(name, paths)
    if Path(name).is_dir():
        return local_shards(name, [path for path in Path(name).iterdir() if path.name[:1] not in "._"])
    return [local_shard(Path(name))]


def local_shards(name: str, paths: Sequence[Path]) -> list[Shard]:
    files = [path for path in paths if file_format(path.name) and not path.is_dir()]  # a broken link is told of
    return _one_kind(name, [local_shard(path) for path in files])


def local_shard(path: Path) -> Shard:
    shown = _shown(path)
    return Shard(shown, path, check_format(path, shown))


def _shown(path: Path) -> str:
    """The path as text that can be kept: bytes of a name that are not UTF-8 are written out."""
    return str(path).encode(errors="backslashreplace").decode()


def _one_kind(name: str, found: list[Shard]) -> list[Shard]:
    if not found:
        raise UserError(f"{name}: no file there can be read; expected {FORMATS_IN_WORDS} files")
    kinds = sorted({shard.ending for shard in found})
    if len(kinds) > 1:
        raise UserError(f"{name}: holds {' and '.join(kinds)} files; name one kind, such as {_such_as(name, kinds[0])}")
    return sorted(found, key=lambda shard: _natural(shard.source))


def _such_as(name: str, ending: str) -> str:
    return f"'{name.rstrip('/')}/*{ending}'" if not glob.has_magic(name) else f"'*{ending}'"


def _natural(name: str) -> list[Any]:
    """part-2 stands before part-10."""
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def _behind(url: str) -> list[Shard]:
    import fsspec

    protocol = url.partition("://")[0].lower()
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(protocol)
        mend = f"pip install {package}" if package else one_line(error)
        raise UserError(f"{url}: {protocol}:// needs a package that is not installed: {mend}") from None
    except ValueError as error:
        raise UserError(f"{url}: {one_line(error)}; s3://, gs://, https://, file:// and others are") from None
    with _told_of(url):
        if glob.has_magic(path):
            paths = system.glob(path)
        elif system.isdir(path):
            paths = [own["name"] for own in system.ls(path, detail=True) if own["type"] == "file"]
        else:
            paths = [path] if system.exists(path) else []
            if not paths:
                raise UserError(f"{url}: there is no such file; check the address")
    names = [(own, file_format(own)) for own in paths]
    return [Shard(f"{protocol}://{own.lstrip('/')}", Remote(system, own), ending) for own, ending in names if ending]


@contextmanager
def _told_of(source: str) -> Iterator[None]:
    """What goes wrong behind a URL has no one type: each store has its own errors."""
    try:
        with told(source):
            yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        raise UserError(f"{source}: cannot be read ({one_line(error)}); check the address and your access") from error


@dataclass(frozen=True)
class Opened:
    """A shard that is being read: the names of its columns, classes it names, and its rows with some of the columns.

    kinds: of a typed file, column -> what it holds. fraction: how much of the file is read, where that is known.
    """

    shard: Shard
    names: list[str]
    class_names: dict[str, tuple[str, ...]]
    kinds: dict[str, str]
    blocks: Any  # the columns that are needed -> Tables of at most BLOCK rows
    fraction: Callable[[], float | None] = lambda: None


@contextmanager
def opened(shard: Shard, encoding: str | None, delimiter: str | None) -> Iterator[Opened]:
    """UserError for what is wrong with the file, also while its blocks are read."""
    with _told_of(shard.source):
        if shard.ending == ".parquet" or shard.ending in ARROW:
            import pyarrow

            with shard.place.open("rb") as file:
                try:
                    yield (_parquet if shard.ending == ".parquet" else _arrow)(shard, file)
                except (pyarrow.ArrowException, UnicodeDecodeError) as error:
                    kind = "Parquet" if shard.ending == ".parquet" else "Arrow"
                    raise UserError(
                        f"{shard.source}: not a whole {kind} file ({one_line(error)}); write it again"
                    ) from error
        else:
            own = TextFile(shard.place, shard.ending, shard.source, encoding, delimiter, once=True)
            yield (_objects if ".jsonl" in shard.ending else _delimited)(shard, own)


def column_names(shard: Shard, encoding: str | None, delimiter: str | None) -> list[str]:
    with opened(shard, encoding, delimiter) as file:
        return file.names


def _parquet(shard: Shard, file: Any) -> Opened:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER)
    schema = table.schema_arrow

    size = sum(table.metadata.row_group(number).total_byte_size for number in range(table.num_row_groups))
    rows = _rows_of_block(size, table.metadata.num_rows)

    def blocks(columns: Sequence[str]) -> Iterator[Table]:
        first = 0
        for batch in table.iter_batches(rows, columns=list(columns), use_threads=False):
            yield _table(shard, {name: batch.column(name).to_pylist() for name in columns}, first)
            first += batch.num_rows

    return _typed(shard, schema, blocks)


def _arrow(shard: Shard, file: Any) -> Opened:
    import pyarrow
    import pyarrow.ipc

    if file.read(4) == b"FEA1":
        raise UserError(f"{shard.source}: of Feather's first version; write it again with version 2")
    file.seek(0)
    total: int | None = None  # of a stream nobody knows how many batches follow
    try:
        reader = pyarrow.ipc.open_file(file)
        total = reader.num_record_batches
        batches = (reader.get_batch(number) for number in range(total))
    except pyarrow.ArrowInvalid:
        file.seek(0)
        reader = pyarrow.ipc.open_stream(file)
        batches = iter(reader)
    done = 0.0  # batches

    def blocks(columns: Sequence[str]) -> Iterator[Table]:
        nonlocal done
        first = 0
        for number, batch in enumerate(batches):
            rows = _rows_of_block(batch.nbytes, batch.num_rows)
            for begin in range(0, batch.num_rows, rows):
                part = batch.slice(begin, rows)
                done = number + (begin + part.num_rows) / batch.num_rows
                yield _table(shard, {name: part.column(name).to_pylist() for name in columns}, first)
                first += part.num_rows

    return replace(_typed(shard, reader.schema, blocks), fraction=lambda: done / total if total else None)


def _rows_of_block(size: int, rows: int) -> int:
    return max(16, min(BLOCK, BLOCK_BYTES * rows // max(1, size)))


def _table(shard: Shard, columns: dict[str, list[Any]], first: int) -> Table:
    return Table(shard.source, columns, first=first)


def _typed(shard: Shard, schema: Any, blocks: Any) -> Opened:
    kinds = {field.name: str(getattr(field.type, "value_type", field.type)) for field in schema}
    kinds = {name: kind.removeprefix("large_").removesuffix("_view") for name, kind in kinds.items()}
    return Opened(shard, list(schema.names), class_names_in(schema.metadata or {}), kinds, blocks)


def _delimited(shard: Shard, file: TextFile) -> Opened:
    cells = file.cells()
    _, header = next(cells, (1, []))
    if not header:
        raise UserError(f"{shard.source}: is empty; the first line should name the columns, such as text,label")

    def blocks(columns: Sequence[str]) -> Iterator[Table]:
        places = [header.index(name) for name in columns]
        for part in _parts(cells):
            own = {name: [row[at] for _, row in part] for name, at in zip(columns, places, strict=True)}
            yield Table(shard.source, own, [line for line, _ in part])

    return Opened(shard, header, {}, {}, blocks)


def _objects(shard: Shard, file: TextFile) -> Opened:
    """The names are those of the first block."""
    parts = _parts(file.objects())
    head = next(parts, [])
    names = list(dict.fromkeys(name for _, record in head for name in record))

    def blocks(columns: Sequence[str]) -> Iterator[Table]:
        part = head
        while part:
            own = {name: [record.get(name) for _, record in part] for name in columns}
            yield Table(shard.source, own, [line for line, _ in part])
            part = next(parts, [])

    return Opened(shard, names, {}, {}, blocks)


def _parts(rows: Iterator[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    part, size = [], 0
    for line, row in rows:
        part.append((line, row))
        size += sum(len(value) for value in (row if isinstance(row, list) else row.values()) if isinstance(value, str))
        if len(part) == BLOCK or size >= BLOCK_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
