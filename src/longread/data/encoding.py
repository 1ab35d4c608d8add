"""Tokens of rows that stay in files: encoded once, by several processes, into a folder that is read as memory maps.

The rows are cut into pieces of a fixed number; which process encodes a piece changes nothing. Each process is this
module as a program (`python -m longread.data.encoding JOB NUMBER`), so that no script of a user's is run a second time.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data import cache
from longread.data.config import Cut
from longread.data.cut import read
from longread.data.mapped import Maps, NewFolder, Writer, move_to, new_folder, open_folder
from longread.data.stored import StoredTexts
from longread.data.tokenizer import Encoded, Tokenizer, tokenizer_of
from longread.data.tokenizer_config import TokenizerConfig

log = logging.getLogger("longread")

# A piece has so many rows, or fewer where texts are long: about so many bytes of text.
PIECE_ROWS, PIECE_BYTES = 8192, 1 << 22
SECONDS_BETWEEN_LINES = 10.0
# Of what a piece knows of its rows: how it is kept in the folder. Offsets are made anew.
KEPT: dict[str, Any] = {"types": np.uint8, "truncated": np.bool_, "first_texts": np.int32, "whole": np.int32}


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int, cut: Cut | None
) -> Encoded:
    """At most `max_length` tokens of a sequence.

    cut: what is read of longer texts, and whether it is counted how long they are; None: as the tokenizer cuts them.
    """
    if cut is None or cut.truncation is None:
        return tokenizer.encode(texts, pairs, max_length)
    return read(tokenizer, texts, pairs, max_length, cut).by_text()


def encoded_in(path: Path) -> Encoded | None:
    """What `encode_to` kept."""
    maps = open_folder(path)
    return None if maps is None else _encoded(maps)


def _encoded(maps: Maps) -> Encoded:
    own = maps.arrays
    return Encoded(
        own["tokens"],
        own["offsets"],
        own.get("types"),
        own["truncated"],
        own.get("first_texts"),
        own.get("sequences"),
        own.get("whole"),
        maps,
    )


def encode_to(
    path: Path,
    tokenizer: Tokenizer,
    texts: StoredTexts,
    pairs: StoredTexts | None,
    max_length: int,
    cut: Cut | None,
    workers: int | None,
    also: dict[str, npt.NDArray[Any]],
) -> Encoded:
    """Of R rows, in the folder `path`. also: arrays [R] that are kept beside the tokens."""
    size = sum(own.characters for own in (texts, pairs) if own is not None)
    rows = max(16, min(PIECE_ROWS, PIECE_BYTES * len(texts) // max(1, size)))
    count = min(workers or cores(), -(-len(texts) // rows))
    how = _Job(tokenizer, texts, pairs, max_length, cut, rows)
    with new_folder(path) as folder, _pieces(how, count, folder.place / "pieces") as pieces:
        _write(folder, pieces, len(texts), np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32)
        for name, array in also.items():
            writer = folder.array(name, array.dtype, array.shape[1] if array.ndim == 2 else None)
            for begin in range(0, len(array), 1 << 18):
                writer.append(array[begin : begin + (1 << 18)])
        folder.close()
        folder.seal()
        move_to(folder, path)
    maps = open_folder(path)
    assert maps is not None
    return _encoded(maps)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(folder: NewFolder, pieces: Iterator[Encoded], rows: int, kind: Any) -> None:
    writers: dict[str, Writer] = {}

    def append(name: str, values: npt.NDArray[Any], dtype: Any) -> None:
        if name not in writers:
            writers[name] = folder.array(name, dtype)
        writers[name].append(values)

    append("offsets", np.zeros(1), np.int64)
    tokens = sequences = done = 0
    began = told = time.monotonic()
    for piece in pieces:
        append("tokens", piece.tokens, kind)
        append("lengths", piece.lengths, np.int32)
        append("offsets", piece.offsets[1:] + tokens, np.int64)
        for name, dtype in KEPT.items():
            if (values := getattr(piece, name)) is not None:
                append(name, values, dtype)
        if piece.sequences is not None:
            if "sequences" not in writers:
                append("sequences", np.zeros(1), np.int64)
                append("first_sequences", np.zeros(1), np.int64)
            append("sequences", piece.sequences[1:] + tokens, np.int64)
            append("first_sequences", piece.first_sequences[1:] + sequences, np.int64)
            sequences += len(piece.sequences) - 1
        tokens += len(piece.tokens)
        done += len(piece.truncated)
        if time.monotonic() - told > SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            left = (told - began) * (rows / done - 1)
            log.info("tokenized %s of %s rows, about %d s left", f"{done:,}", f"{rows:,}", left)
    if rows > PIECE_ROWS:
        log.info("tokenized %s rows: %s tokens, kept for the next run", f"{rows:,}", f"{tokens:,}")


@dataclass(frozen=True)
class _Job:
    """What is to be encoded, `rows` of it in one piece."""

    tokenizer: Tokenizer
    texts: Sequence[str]
    pairs: Sequence[str] | None
    max_length: int
    cut: Cut | None
    rows: int

    @property
    def pieces(self) -> int:
        return -(-len(self.texts) // self.rows)

    def piece(self, number: int) -> Encoded:
        own = slice(number * self.rows, (number + 1) * self.rows)
        pairs = None if self.pairs is None else self.pairs[own]
        return encode(self.tokenizer, self.texts[own], pairs, self.max_length, self.cut)

    def to_folder(self, folder: Path, workers: int) -> None:
        assert isinstance(self.texts, StoredTexts)
        if self.texts.chosen is not None:
            np.save(folder / "chosen.npy", self.texts.chosen)
        (folder / "tokenizer.json").write_text(self.tokenizer.inner.to_str(), "utf-8")
        names = [own.name for own in (self.texts, self.pairs) if isinstance(own, StoredTexts)]
        job = {
            "folder": str(self.texts.folder),
            "names": names,
            "config": vars(self.tokenizer.config) | {"kept": dict(self.tokenizer.config.kept)},
            "max_length": self.max_length,
            "cut": None if self.cut is None else vars(self.cut),
            "rows": self.rows,
            "workers": workers,
        }
        (folder / "job.json").write_text(json.dumps(job), "utf-8")

    @classmethod
    def from_folder(cls, folder: Path) -> tuple[_Job, int]:
        """And the number of processes."""
        job = json.loads((folder / "job.json").read_text("utf-8"))
        maps = open_folder(Path(job["folder"]))
        assert maps is not None
        chosen = np.load(folder / "chosen.npy", mmap_mode="r") if (folder / "chosen.npy").exists() else None
        texts = [StoredTexts(maps, name, chosen) for name in job["names"]]
        inner = tokenizer_of((folder / "tokenizer.json").read_text("utf-8")).inner
        tokenizer = Tokenizer(inner, TokenizerConfig(**job["config"]))
        cut = None if job["cut"] is None else Cut(**job["cut"])
        pairs = texts[1] if len(texts) == 2 else None
        return cls(tokenizer, texts[0], pairs, job["max_length"], cut, job["rows"]), job["workers"]


@contextmanager
def _pieces(job: _Job, workers: int, folder: Path) -> Iterator[Iterator[Encoded]]:
    """The pieces in their order. folder: for what is between the processes; it is made and deleted."""
    if workers < 2:
        yield (job.piece(number) for number in range(job.pieces))
        return
    job.tokenizer.encode([""], None if job.pairs is None else [""], job.max_length)  # what cannot be is said here
    folder.mkdir()
    job.to_folder(folder, workers)
    command = [sys.executable, "-m", "longread.data.encoding", str(folder)]
    alone = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(workers):
            own = [*command, str(number)]
            running.append(subprocess.Popen(own, env=alone, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE))
        yield _arriving(job, folder, running)
    finally:
        for process in running:
            process.kill()
            process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def _arriving(job: _Job, folder: Path, running: Sequence[subprocess.Popen[bytes]]) -> Iterator[Encoded]:
    """Where a process has ended before its time, its pieces are encoded here."""
    for number in range(job.pieces):
        path, process = folder / f"piece-{number}", running[number % len(running)]
        while not path.exists() and process.poll() is None:
            time.sleep(0.01)
        piece = cache.read_tokens(path)
        path.unlink(missing_ok=True)
        if piece is None:
            log.warning("a process that tokenizes has ended (%s); its rows are tokenized here", process.returncode)
        yield job.piece(number) if piece is None else piece


def work(folder: Path, number: int) -> None:
    """Every piece that is this process's, until all are done or nobody waits for them."""
    job, workers = _Job.from_folder(folder)
    parent = os.getppid()
    for own in range(number, job.pieces, workers):
        piece = job.piece(own)
        if os.getppid() != parent:
            return
        cache.write_tokens(folder / f"piece-{own}", piece)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
