"""An output under way: it appears whole or not at all, and goes on behind its last whole block after a stop.

`.NAME.part` holds the blocks that are done, `.NAME.part.json` how many these are and of what: input, model, options.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from longread import __version__
from longread.data import stream
from longread.errors import UserError
from longread.inference.answers import Tally
from longread.inference.outputs import Format
from longread.inference.predictor import Predictor
from longread.records import canonical, fingerprint, write_json

log = logging.getLogger("longread")

SAVE_SECONDS = 1.0  # so much is answered again after a kill; after an interruption nothing is
ENDS = 1 << 20  # bytes at each end of the input that are looked at


def identity(predictor: Predictor, file: Path, **options: Any) -> str:
    """Of all that decides an output: a stopped one is gone on with only where this is the same."""
    told = file.stat()
    with file.open("rb") as opened:
        ends = hashlib.sha256(opened.read(ENDS))
        opened.seek(max(0, told.st_size - ENDS))
        ends.update(opened.read())
    program = [__version__, torch.__version__, torch.get_num_threads(), stream.BLOCK, stream.BLOCK_CHARACTERS]
    source = [told.st_size, told.st_mtime_ns, ends.hexdigest()]
    return fingerprint(canonical([source, predictor.fingerprint, program, options]))


@dataclass(frozen=True)
class Done:
    """What of an output is on disk."""

    tally: Tally
    bytes: int


class Output:
    """`write` puts blocks into the part; `done` says which are there."""

    def __init__(self, out: Path, format: Format, identity: str | None) -> None:
        """identity: None where the input cannot be read again."""
        self.out, self.format, self.identity = out, format, identity
        self.part = out.with_name(f".{out.name}.part")
        self.notes = self.part.with_name(self.part.name + ".json")
        out.parent.mkdir(parents=True, exist_ok=True)
        self.done = self._found() or Done(Tally(), len(format.header))
        resumed = self.done.tally.blocks > 0
        self.file = self.part.open("r+b" if resumed else "wb")
        if resumed:
            log.info("goes on behind %s texts that were answered before", f"{self.done.tally.texts:,}")
            self.file.truncate(self.done.bytes)
            self.file.seek(self.done.bytes)
        else:
            self.file.write(format.header)
        self._saved = time.monotonic()

    def write(self, data: bytes, tally: Tally) -> None:
        self.file.write(data)
        self.done = Done(tally, self.done.bytes + len(data))
        if self.identity is not None and time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        write_json(self.notes, {"identity": self.identity, "bytes": self.done.bytes, **asdict(self.done.tally)})
        self._saved = time.monotonic()

    def finish(self) -> None:
        self.file.close()
        self.format.finish(self.part, self.out)
        self.notes.unlink(missing_ok=True)

    def stop(self, keep: bool) -> None:
        """keep: what is done is gone on with by the same command."""
        if keep and self.identity is not None and self.done.tally.blocks:
            self.save()
        self.file.close()
        if not (keep and self.notes.exists()):
            self.part.unlink(missing_ok=True)
            self.notes.unlink(missing_ok=True)

    def _found(self) -> Done | None:
        """None where nothing was begun, or it was begun with another input, model or options."""
        try:
            told = json.loads(self.notes.read_text("utf-8"))
            there = self.part.stat().st_size
            done = Done(Tally(told["blocks"], told["texts"], told["empty"], told["cut"]), told["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if told["identity"] != self.identity or there < done.bytes:
            log.warning("%s: was begun with another input, model or options; begins anew", self.out)
            return None
        return done


@contextmanager
def output(out: Path, format: Format, identity: str | None = None) -> Iterator[Output]:
    """The file appears when the block ends. After wrong input nothing is left; after any other stop the part is."""
    under_way = Output(out, format, identity)
    try:
        yield under_way
        under_way.finish()
    except BaseException as error:
        under_way.stop(keep=not isinstance(error, UserError))
        raise
