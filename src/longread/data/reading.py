"""Text files row by row, in constant memory: their compression, encoding, delimiter, and what is broken in them.

Reading goes through the standard library: readers that guess types turn the word "NA" into a missing value and the
text "007" into a number.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import logging
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from longread.data.limits import LONGEST_TEXT, Holding, check_unpacked
from longread.errors import UserError, one_line

log = logging.getLogger("longread")

CHUNK = 1 << 20
DELIMITERS = (",", ";", "\t", "|")  # the first wins a tie
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
_said: set[tuple[str, int, int, str]] = set()
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")


@dataclass
class Position:
    """How far a file is read, for those who want to know how much is left; of a packed file, in packed bytes."""

    file: BinaryIO | None = None
    size: int = 0

    @property
    def fraction(self) -> float | None:
        """None before the file is open."""
        if self.file is None or not self.size:
            return None
        return 1.0 if self.file.closed else min(1.0, self.file.tell() / self.size)


@dataclass(frozen=True)
class TextFile:
    """One file of text and how it is to be read; what is None is found out and, where it is unusual, logged.

    `ending` is the kind of file, such as `.csv.gz`; `source` is what messages call it. `held`: whoever reads keeps all
    rows in memory. `once`: it is not looked through before it is read; what has no mark and no `encoding` is UTF-8.
    """

    path: Any  # a Path, or what opens like one
    ending: str
    source: str
    encoding: str | None = None
    delimiter: str | None = None
    held: bool = False
    once: bool = False
    position: Position = field(default_factory=Position, compare=False)

    def cells(self) -> Iterator[tuple[int, list[str]]]:
        """Lines of a delimited file that are not blank, the header first, each with the line it begins on."""
        with self._lines(newline="") as lines:
            first = next(lines, "")
            delimiter = self._delimiter(first)
            before = csv.field_size_limit(LONGEST_TEXT)  # by default less than a long document
            try:
                reader = csv.reader(_behind(first, lines), delimiter=delimiter, strict=True)
                width, begin = 0, 1
                while True:
                    try:
                        cells = next(reader)
                    except StopIteration:
                        return
                    except csv.Error as error:
                        raise UserError(
                            f"{self.source}, line {begin}: broken row ({one_line(error)}); "
                            'a quote inside a quoted text is written twice ("")'
                        ) from error
                    if cells:
                        width = width or len(cells)
                        if len(cells) != width:
                            raise UserError(
                                f"{self.source}, line {begin}: {len(cells)} cells where the header has {width}; "
                                'put quotes (") around a text that holds a separator or a line break'
                            )
                        yield begin, cells
                    begin = reader.line_num + 1
            finally:
                csv.field_size_limit(before)

    def objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Objects of a JSON Lines file, each with its line."""
        for number, line in self.lines():
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                where = f"{self.source}, line {number}"
                raise UserError(f"{where}: not JSON ({one_line(error)}); one object a line") from error
            if not isinstance(record, dict):
                raise UserError(f'{self.source}, line {number}: not an object; one {{"text": …, "label": …}} a line')
            if "\\u" in line:
                _check_characters(record, f"{self.source}, line {number}")
            yield number, record

    def lines(self) -> Iterator[tuple[int, str]]:
        """All lines with their numbers from 1, blank ones too. Only line feeds end one: texts hold other breaks."""
        with self._lines(newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                yield number, line.removesuffix("\n").removesuffix("\r")

    def _delimiter(self, header: str) -> str:
        if self.delimiter is not None:
            delimiter = "\t" if self.delimiter in ("tab", "\\t") else self.delimiter
            if len(delimiter) != 1 or delimiter in '"\r\n':
                raise UserError(f"--delimiter {self.delimiter!r}: give one character, or tab")
            return delimiter
        if ".tsv" in self.ending:
            return "\t"
        counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in DELIMITERS}
        found = max(counts, key=lambda mark: counts[mark])
        if found != DELIMITERS[0]:
            self._say(logging.INFO, f"read with delimiter {found!r}; --delimiter names another")
        return found

    @contextmanager
    def _lines(self, newline: str) -> Iterator[Iterator[str]]:
        try:
            encoding = self._found_encoding()
            with self._open() as binary, io.TextIOWrapper(binary, encoding, newline=newline) as text:
                yield self._bounded(text)
        except (EOFError, zlib.error, lzma.LZMAError) as error:  # a broken header is an OSError
            raise OSError(f"broken {self.ending.rpartition('.')[2]} data: {one_line(error)}") from error

    def _bounded(self, text: io.TextIOWrapper) -> Iterator[str]:
        holding = Holding(self.source) if self.held else None
        lines = self._as_it_comes(text) if self.once else iter(partial(text.readline, LONGEST_TEXT), "")
        for number, line in enumerate(lines, 1):
            if len(line) == LONGEST_TEXT:
                raise UserError(f"{self.source}, line {number}: has more than {LONGEST_TEXT:,} characters; cut it")
            if holding is not None:
                holding.add(len(line))
            yield line

    def _as_it_comes(self, text: io.TextIOWrapper) -> Iterator[str]:
        """Lines whose encoding nobody has checked before."""
        number, read, packed = 0, 0, self.ending.endswith(COMPRESSIONS)
        while True:
            try:
                line = text.readline(LONGEST_TEXT)
            except UnicodeError:  # not only of a byte: UTF-16 without its mark, too
                name = "UTF-8" if text.encoding == "utf-8-sig" else text.encoding
                raise UserError(
                    f"{self.source}, after line {number}: this is not {name} text; save the file as UTF-8, or name its "
                    "--encoding"
                ) from None
            if not line:
                return
            number, read = number + 1, read + len(line)
            if "\0" in line:
                raise UserError(f"{self.source}, line {number}: holds a NUL byte; the file is damaged or no text")
            if packed:
                check_unpacked(self.source, self.path, read)
            yield line

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        with self.path.open("rb") as file:
            self.position.file, self.position.size = file, self.path.stat().st_size
            if self.ending.endswith((".gz", ".bz2", ".xz")):
                packed = self.ending.rpartition(".")[2]
                opened: Any = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[packed]
                with opened(file, "rb") as unpacked:
                    yield unpacked
            elif self.ending.endswith(".zst"):
                import pyarrow

                with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd") as unpacked:
                    yield unpacked
            else:
                yield file

    def _found_encoding(self) -> str:
        """As given, UTF-16 by its mark, UTF-8, or else what Western spreadsheets write. The whole file is checked.

        A file with whole UTF-8 characters before the broken one is damaged UTF-8, and is refused.
        """
        with self._open() as file:
            mark = file.read(2)
        if self.encoding:
            return self._known(self.encoding) if self.once else self._checked(self.encoding, self.encoding)
        if mark in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16" if self.once else self._checked("utf-16", "UTF-16")
        if self.once:
            return "utf-8-sig"
        try:
            return self._checked("utf-8-sig", "UTF-8")
        except _OtherEncoding as error:
            if line := self._line_in_utf8():
                raise UserError(f"{error}; line {line} is UTF-8") from None
        for encoding, name in (("cp1252", "Windows-1252"), ("latin-1", "Latin-1")):
            try:
                self._checked(encoding, name)
            except UserError:
                continue
            self._say(logging.WARNING, f"not UTF-8, read as {name}; --encoding names another")
            return encoding
        return self._checked("latin-1", "Latin-1")

    def _say(self, level: int, note: str) -> None:
        """Once, however often a command reads the file as it is now."""
        stat = self.path.stat()
        said = (str(self.path), stat.st_size, getattr(stat, "st_mtime_ns", 0), note)
        if said not in _said:
            _said.add(said)
            log.log(level, "%s: %s", self.source, note)

    def _line_in_utf8(self) -> int | None:
        """The first line that is UTF-8 and not ASCII alone. As Windows-1252 it would be read, too, as other letters."""
        with self._open() as file:
            number, cut = 1, False
            while line := file.readline(CHUNK):
                if not cut and not line.isascii():
                    try:
                        line.decode()
                        return number
                    except UnicodeDecodeError:
                        pass
                cut = not line.endswith(b"\n")
                number += not cut
        return None

    def _known(self, encoding: str) -> str:
        try:
            codecs.getincrementaldecoder(encoding)
        except LookupError:
            raise UserError(f"--encoding {encoding}: not known; utf-8, cp1252 and utf-16 are") from None
        return encoding

    def _checked(self, encoding: str, name: str) -> str:
        decoder = codecs.getincrementaldecoder(self._known(encoding))()
        line, beyond_ascii, read = 1, False, 0
        packed = self.ending.endswith(COMPRESSIONS)
        with self._open() as file:
            while True:
                chunk = file.read(CHUNK)
                read += len(chunk)
                if packed:
                    check_unpacked(self.source, self.path, read)
                try:
                    text = decoder.decode(chunk, final=not chunk)
                except UnicodeError as error:
                    good = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
                    where = f"{self.source}, line {line + good.count(bytes([10]))}"
                    wrong = f"{where}: this is not {name} text; save the file as UTF-8, or name its --encoding"
                    foreign = encoding == "utf-8-sig" and good.isascii() and not beyond_ascii
                    raise (_OtherEncoding if foreign and ".jsonl" not in self.ending else UserError)(wrong) from None
                if "\0" in text:
                    line += text[: text.index("\0")].count("\n")
                    raise UserError(f"{self.source}, line {line}: holds a NUL byte; the file is damaged or no text")
                if not chunk:
                    return encoding
                line += text.count("\n")
                beyond_ascii = beyond_ascii or not text.isascii()


class _OtherEncoding(UserError):
    """Not UTF-8, and not damaged UTF-8 either."""


def check_unicode(text: str, place: str, column: str) -> None:
    """UserError for half a character, as broken JSON escapes make it: no tokenizer can read it, no file hold it."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{place}: column {column!r} holds half a character at position {error.start + 1}; write it as UTF-8"
            ) from None


def _check_characters(record: dict[str, Any], place: str) -> None:
    for name, value in record.items():
        check_unicode(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), place, name)
        check_unicode(name, place, name)


def _behind(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest
