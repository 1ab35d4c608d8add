"""Tables as people have them, with the rows that must come out; and what may happen to a file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = [
    "a", "long", "warm", "funny", "film", "that", "crashes", "at", "once", "and", "works", "so", "well", "the",
    "end", "was", "slow", "but", "not", "bad",
]  # fmt: skip
LABELS = ("bad", "fine", "good")
ODD_TEXTS = (
    'said "no", twice', "two\nlines", "a,b;c\td|e", "NA", "007", "null", "=cmd()", " spaces ", "tab\there",
    "\u2028 and \x85 and \x0c", "naïve café", "日本語のレビュー", "🙂🙃", "مرحبا", "\u202eright", "é" * 50, "x" * 5000,
    "<script>alert(1)</script>", "'; drop table", "%s %d {0} {{}}", "\x1b[31mred", "\\N", "\\ud83d", "a\u0301" * 9,
)  # fmt: skip
WESTERN = ("Käse für 5 Euro", "naïve café", "Ärger, viel", "¿qué?")
UNICODE = ("utf-8", "utf-8-sig", "utf-16")
WESTERN_ENCODINGS = ("cp1252", "latin-1")
LINE_BREAKS = ("\n", "\r\n")


@dataclass(frozen=True)
class Made:
    """A file, how a command must be told of it, and the rows that it holds."""

    path: Path
    texts: list[str]
    labels: list[str]
    options: tuple[str, ...] = ()
    what: str = ""
    by_line: bool = False  # one row a line, so that damage in a line leaves the rows in front of it alone


def rows(rng: random.Random, extra: tuple[str, ...]) -> tuple[list[str], list[str]]:
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(rng.randint(12, 30))]
    for text in rng.sample(extra, rng.randint(0, min(4, len(extra)))):
        texts[rng.randrange(len(texts))] = text
    labels = [LABELS[i % 3] for i in range(len(texts))]
    rng.shuffle(labels)
    return texts, labels


def write(rng: random.Random, folder: Path) -> Made:
    """A sound table in one of the many ways in which people write them."""
    kind = rng.choice(("csv", "csv", "tsv", "jsonl", "parquet"))
    return _write_parquet(rng, folder) if kind == "parquet" else _write_lines(rng, folder, kind)


def _write_parquet(rng: random.Random, folder: Path) -> Made:
    texts, labels = rows(rng, ODD_TEXTS)
    path = folder / "data.parquet"
    column = pa.array(texts, rng.choice((pa.string(), pa.large_string(), pa.string_view())))
    column = column.dictionary_encode() if rng.random() < 0.2 and column.type == pa.string() else column
    compression, size = rng.choice(("snappy", "zstd", "none", "gzip")), rng.choice((4, 1000))
    pq.write_table(pa.table({"text": column, "label": labels}), path, compression=compression, row_group_size=size)
    return Made(path, texts, labels, (), "parquet")


def _write_lines(rng: random.Random, folder: Path, kind: str) -> Made:
    encoding = rng.choice(UNICODE if kind == "jsonl" else ("utf-8", *UNICODE, *WESTERN_ENCODINGS))
    western = encoding in WESTERN_ENCODINGS
    texts, labels = rows(rng, WESTERN if western else ODD_TEXTS)
    line_break = rng.choice(LINE_BREAKS)
    options: tuple[str, ...] = ()
    if kind == "jsonl":
        content = _objects(rng, texts, labels, line_break)
    else:
        mark = "\t" if kind == "tsv" else rng.choice((",", ",", ";", "\t", "|"))
        options = ("--delimiter", "|") if mark == "|" else ()
        content = _cells(rng, texts, labels, mark, line_break)
    content += line_break * rng.randint(0, 2)
    packed = rng.choice(("", "", "", ".gz", ".zst"))
    path = folder / f"data.{kind}{packed}"
    pack(path, content.encode(encoding))
    if western and rng.random() < 0.3:
        options += ("--encoding", encoding)
    by_line = not packed and encoding != "utf-16" and not any("\n" in text or "\r" in text for text in texts)
    return Made(path, texts, labels, options, f"{kind}{packed} {encoding} {line_break!r}", by_line)


def _objects(rng: random.Random, texts: list[str], labels: list[str], line_break: str) -> str:
    return line_break.join(
        json.dumps({"text": text, "label": label, "more": [1, {"a": None}]}, ensure_ascii=rng.random() < 0.5)
        for text, label in zip(texts, labels, strict=True)
    )


def _cells(rng: random.Random, texts: list[str], labels: list[str], mark: str, line_break: str) -> str:
    file = io.StringIO(newline="")
    quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(file, delimiter=mark, lineterminator=line_break, quoting=quoting)
    more = rng.random() < 0.3
    writer.writerow(["id", "label", "text"] if more else ["text", "label"])
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        writer.writerow([number, label, text] if more else [text, label])
    return file.getvalue()


def pack(path: Path, data: bytes) -> None:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data, 1))
    elif path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(data)
    else:
        path.write_bytes(data)


def unpack(path: Path) -> bytes:
    with pa.input_stream(str(path), compression="detect") as file:
        return file.read()


NOISE = (
    b"\0", b"\xff", b"\xc3", b'"', b'""', b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"{", b"}", b"[", b"\\",
    b"\\u00", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"NaN", b"1e999", b"-", b"\x1b",
    b"\x85",
)  # fmt: skip


def damage(rng: random.Random, data: bytes) -> tuple[bytes, int, str]:
    """Other bytes, the place of the first that differs, and what was done."""
    if not data:
        return b"\0", 0, "a NUL"
    at = rng.randrange(len(data))
    kind = rng.choice(("flip", "cut", "lose", "twice", "noise", "noise", "random", "swap", "tail"))
    end = min(len(data), at + rng.choice((1, 3, 20, 400)))
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :], at, f"bit flipped at {at}"
    if kind == "cut":
        return data[:at], at, f"cut at {at}"
    if kind == "lose":
        return data[:at] + data[end:], at, f"bytes {at} to {end} lost"
    if kind == "twice":
        return data[:end] + data[at:end] + data[end:], end, f"bytes {at} to {end} twice"
    if kind == "noise":
        what = rng.choice(NOISE)
        return data[:at] + what + data[at:], at, f"{what!r} at {at}"
    if kind == "random":
        return data[:at] + rng.randbytes(end - at) + data[end:], at, f"random bytes {at} to {end}"
    if kind == "swap":
        return data[:at] + data[end:] + data[at:end], at, f"bytes {at} to {end} at the end"
    return data + rng.randbytes(rng.randint(1, 40)), len(data), "random bytes behind"


def damaged(rng: random.Random, made: Made) -> tuple[Made, int | None]:
    """The file with one to three faults, and how many of its rows lie safely in front of them (None: not known)."""
    inside = made.path.suffix in (".gz", ".zst") and rng.random() < 0.6
    data = unpack(made.path) if inside else made.path.read_bytes()
    before, done = len(data), []
    for _ in range(rng.choice((1, 1, 1, 3))):
        data, at, what = damage(rng, data)
        before = min(before, at)
        done.append(what)
    safe = max(0, data[:before].count(b"\n") - 1) if made.by_line else None
    if made.by_line and ".jsonl" in made.path.name:
        safe = data[:before].count(b"\n")
    pack(made.path, data) if inside else made.path.write_bytes(data)
    return Made(made.path, made.texts, made.labels, made.options, f"{made.what}, {'; '.join(done)}", made.by_line), safe


def _table(columns: dict[str, object]) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pa.table(columns), path)


def _text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content, encoding="utf-8")


def _data(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


GOOD = "".join(f"a film number {n},{LABELS[n % 3]}\n" for n in range(30))
# Name of a file -> how it is made. None of them can be used; each must be refused, and for which reason.
UNUSABLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "directory": ("data.csv", lambda p: p.mkdir(), ""),
    "pipe": ("data.csv", os.mkfifo, "data.csv"),
    "pipe of JSON": ("data.jsonl", os.mkfifo, "data.jsonl"),
    "pipe of Parquet": ("data.parquet", os.mkfifo, "data.parquet"),
    "zeros without end": ("data.csv", lambda p: p.symlink_to("/dev/zero"), "data.csv"),
    "zeros without end, gz": ("data.csv.gz", lambda p: p.symlink_to("/dev/zero"), "data.csv.gz"),
    "link to itself": ("data.csv", lambda p: p.symlink_to(p), "data.csv"),
    "link to nothing": ("data.csv", lambda p: p.symlink_to("nothing.csv"), "data.csv"),
    "nothing": ("data.csv", lambda p: None, "data.csv"),
    "empty": ("data.csv", _text(""), "data.csv"),
    "empty gz": ("data.csv.gz", _data(gzip.compress(b"")), "data.csv.gz"),
    "empty Parquet": ("data.parquet", _data(b""), "data.parquet"),
    "blank lines": ("data.csv", _text("\n\n\n"), "data.csv"),
    "header only": ("data.csv", _text("text,label\n"), "data.csv"),
    "two columns of one name": (
        "data.csv",
        _text("text,text,label\n" + "a,b,good\nb,c,bad\n" * 9),
        "'text' is there twice",
    ),
    "names missing": ("data.csv", _text(",\n" + GOOD), "data.csv"),
    "NUL": ("data.csv", _data(b"text,label\n" + GOOD.encode().replace(b"number 7", b"n\0", 1)), "line 9"),
    "quote that never ends": ("data.csv", _text('text,label\n"' + GOOD), "data.csv, line 2"),
    "cells too many": ("data.csv", _text("text,label\n" + GOOD + "a,b,c\n"), "line 32"),
    "gz that is none": ("data.csv.gz", _text("text,label\n" + GOOD), "data.csv.gz"),
    "zst that is none": ("data.csv.zst", _text("text,label\n" + GOOD), "data.csv.zst"),
    "gz cut": ("data.csv.gz", _data(gzip.compress(("text,label\n" + GOOD).encode())[:-9]), "data.csv.gz"),
    "gz that hides": ("data.csv", _data(gzip.compress(("text,label\n" + GOOD).encode())), "data.csv"),
    "Parquet that is CSV": ("data.parquet", _text("text,label\n" + GOOD), "data.parquet"),
    "CSV that is Parquet": ("data.csv", _table({"text": ["a", "b"] * 20, "label": ["x", "y"] * 20}), "data.csv"),
    "spreadsheet": ("data.xlsx", _data(b"PK\3\4"), "save it as CSV"),
    "another kind": ("data.doc", _data(b"text"), "cannot be read"),
    "UTF-32": ("data.csv", _data(("text,label\n" + GOOD).encode("utf-32")), "data.csv"),
    "nested JSON": ("data.jsonl", _text("[" * 100_000), "data.jsonl, line 1"),
    "nested JSON inside": ("data.jsonl", _text('{"text":' + '{"a":' * 100_000), "data.jsonl, line 1"),
    "endless number": ("data.jsonl", _text('{"text": "a", "label": ' + "9" * 50_000 + "}\n"), "data.jsonl"),
    "list of objects": ("data.jsonl", _text('[{"text": "a", "label": 1}]\n'), "line 1"),
    "text that is a list": ("data.jsonl", _text('{"text": ["a"], "label": "good"}\n' * 30), "line 1"),
    "text that is null": ("data.jsonl", _text('{"text": null, "label": "good"}\n' * 30), "line 1"),
    "label that is NaN": ("data.jsonl", _text('{"text": "a", "label": NaN}\n' * 30), "line 1"),
    "label that is infinite": ("data.jsonl", _text('{"text": "a", "label": 1e999}\n' * 30), "line 1"),
    "label that is an object": ("data.jsonl", _text('{"text": "a", "label": {}}\n' * 30), "line 1"),
    "half a character": ("data.jsonl", _text('{"text": "a \\ud800", "label": "good"}\n' * 30), "line 1"),
    "half a character in a label": (
        "data.jsonl",
        _text('{"text": "a", "label": "\\udc00"}\n{"text": "b", "label": "b"}\n' * 30),
        "data.jsonl",
    ),
    "numbers for texts": ("data.parquet", _table({"text": [1.5] * 30, "label": ["good", "bad"] * 15}), "data.parquet"),
    "bytes for texts": ("data.parquet", _table({"text": [b"a"] * 30, "label": ["good", "bad"] * 15}), "data.parquet"),
    "lists for texts": ("data.parquet", _table({"text": [["a"]] * 30, "label": ["good", "bad"] * 15}), "data.parquet"),
    "no rows": (
        "data.parquet",
        _table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}),
        "data.parquet",
    ),
    "no columns": ("data.parquet", lambda p: pq.write_table(pa.table({}), p), "data.parquet"),
}
