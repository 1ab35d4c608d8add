"""Files that can be made again at any time. A damaged one is never believed: its checksum is in front of its bytes."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path

import numpy as np

from longread.data.tokenizer import Encoded
from longread.records import write_atomically

log = logging.getLogger("longread")


def read(path: Path) -> bytes | None:
    """What `write` kept; None where there is nothing, or it is damaged (which is logged)."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        log.warning("%s: cannot be read (%s); made anew", path, error.strerror)
        return None
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        log.warning("%s: damaged; made anew", path)
        return None
    return data[32:]


def write(path: Path, data: bytes) -> None:
    """Kept for the next run. Where it cannot be kept (a full disk), this run goes on without."""
    try:
        write_atomically(path, hashlib.sha256(data).digest() + data)
    except OSError as error:
        log.warning("%s: cannot be kept (%s); the next run makes it again", path, error.strerror)


OPTIONAL = ("first_texts", "sequences", "whole")


def read_tokens(path: Path) -> Encoded | None:
    data = read(path)
    if data is None:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return Encoded(file["tokens"], file["offsets"], file.get("types"), file["truncated"],
                       *(file.get(name) for name in OPTIONAL))  # fmt: skip


def write_tokens(path: Path, encoded: Encoded) -> None:
    arrays = {"tokens": encoded.tokens, "offsets": encoded.offsets, "truncated": encoded.truncated}
    given = {name: getattr(encoded, name) for name in ("types", *OPTIONAL)}
    arrays |= {name: array for name, array in given.items() if array is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write(path, buffer.getvalue())
