"""Texts as a model reads them: what is taken of a text that is longer than the model's positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from longread.data.config import Cut
from longread.data.tokenizer import Encoded, Tokenizer
from longread.errors import UserError
from longread.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Reading:
    """S sequences of R texts: S is R unless long texts are read in chunks.

    text_of: [S], the text that a sequence is of. tokens, tokens_in_text: [R], how many were read and how many there
    are, the tokenizer's marks among them (once).
    """

    encoded: Encoded
    text_of: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    tokens_in_text: npt.NDArray[np.int64]

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """[R]: a part of the text is not read."""
        return self.tokens < self.tokens_in_text

    def by_text(self) -> Encoded:
        """The same tokens with a row for each text, which knows its sequences."""
        first = np.searchsorted(self.text_of, np.arange(len(self.tokens) + 1))
        offsets = self.encoded.offsets
        own = offsets if len(offsets) > len(first) else None  # no text has several
        return replace(
            self.encoded, offsets=offsets[first], truncated=self.truncated, sequences=own, whole=self.tokens_in_text
        )

    def pooled(
        self, logits: npt.NDArray[np.floating[Any]], problem_type: ProblemType = SINGLE_LABEL
    ) -> npt.NDArray[np.float64]:
        """Logits [S, C] of the sequences -> [R, C] of the texts."""
        return pooled(logits, self.text_of, len(self.tokens), problem_type)


def pooled(
    logits: npt.NDArray[np.floating[Any]],
    text_of: npt.NDArray[np.int64],
    texts: int,
    problem_type: ProblemType = SINGLE_LABEL,
) -> npt.NDArray[np.float64]:
    """Of the logits [S, C] of each text's sequences the mean, [R, C]; of several labels the greatest.

    A label that one chunk speaks for is a label of the text. text_of [S]: the text that a sequence is of.
    """
    if problem_type == MULTI_LABEL:
        greatest = np.full((texts, logits.shape[1]), -np.inf)
        np.maximum.at(greatest, text_of, logits)
        return greatest
    total = np.zeros((texts, logits.shape[1]))
    np.add.at(total, text_of, logits)
    return total / np.bincount(text_of, minlength=texts)[:, None]  # type: ignore[no-any-return]


def read(
    tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, limit: int, cut: Cut | None = None
) -> Reading:
    """Sequences of at most `limit` tokens. Of a pair, the longer text is cut first.

    UserError for pairs that are to be cut otherwise, and for a `limit` or stride that leaves no room.
    """
    cut = cut or Cut()
    if pairs is not None:
        if cut.truncation not in (None, "head"):
            raise UserError(f"--truncation {cut.truncation}: only for single texts; of a pair the longer text is cut")
        encoded = tokenizer.encode(texts, pairs, limit)
        whole = whole_lengths(tokenizer, texts, pairs, encoded)
        return Reading(encoded, np.arange(len(texts)), encoded.lengths, whole)
    return _read_single(tokenizer, texts, limit, cut)


def whole_lengths(
    tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, encoded: Encoded
) -> npt.NDArray[np.int64]:
    """Tokens of each text (or pair) before it was cut, [R]; those of `encoded` where nothing was cut."""
    whole = encoded.lengths.copy()
    for row in np.flatnonzero(encoded.truncated).tolist():
        whole[row] = len(tokenizer.inner.encode(texts[row], None if pairs is None else pairs[row]).ids)
    return whole


def _read_single(tokenizer: Tokenizer, texts: Sequence[str], limit: int, cut: Cut) -> Reading:
    inner = tokenizer.inner
    marks = inner.num_special_tokens_to_add(False)
    room = limit - marks
    if room <= cut.chunk_stride:
        what = f"--chunk-stride {cut.chunk_stride}" if cut.chunk_stride else f"--max-length {limit}"
        right = f"; give less than {room}" if cut.chunk_stride and room > 0 else ""
        raise UserError(f"{what}: of {limit} tokens the tokenizer's {marks} marks leave room for {max(0, room)}{right}")
    way = _way(tokenizer, cut)
    nothing = next((i for i in (tokenizer.pad_id, inner.token_to_id("<unk>")) if i is not None), 0)
    sequences: list[npt.NDArray[np.int32]] = []
    text_of: list[int] = []
    tokens, whole = np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.int64)
    for begin in range(0, len(texts), 1024):  # bounds the memory of the library's own objects
        for row, encoding in enumerate(inner.encode_batch_fast(list(texts[begin : begin + 1024])), begin):
            before, own, after = _parts(encoding, np.array(encoding.ids, dtype=np.int32))
            parts = [own] if len(own) <= room else _cut(own, room, way, cut.chunk_stride)
            for part in parts:
                ids = np.concatenate([before, part, after])
                sequences.append(ids if len(ids) else np.array([nothing], dtype=np.int32))
                text_of.append(row)
            whole[row] = max(1, len(encoding.ids))
            tokens[row] = whole[row] if way == "chunk" else len(sequences[-1])
    offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids in sequences], out=offsets[1:])
    flat = np.concatenate(sequences) if sequences else np.zeros(0, dtype=np.int32)
    owner = np.array(text_of, dtype=np.int64)
    encoded = Encoded(flat, offsets, None, (tokens < whole)[owner])
    return Reading(encoded, owner, tokens, whole)


def places_read(tokenizer: Tokenizer, encoding: Any, limit: int, cut: Cut) -> list[npt.NDArray[np.int64]]:
    """Of a single text's whole encoding: which of its tokens each sequence holds, the marks among them, as `read`."""
    before, own, after = _parts(encoding, np.arange(len(encoding.ids)))
    room = limit - len(before) - len(after)
    parts = [own] if len(own) <= room else _cut(own, room, _way(tokenizer, cut), cut.chunk_stride)
    return [np.concatenate([before, part, after]) for part in parts]


def _way(tokenizer: Tokenizer, cut: Cut) -> str:
    return cut.truncation or ("tail" if tokenizer.config.truncation_side == "left" else "head")


def _parts(encoding: Any, values: npt.NDArray[T]) -> list[npt.NDArray[T]]:
    """Of one value a token: those of the marks in front of a text, of its own tokens, of the marks behind it."""
    own = [place for place, source in enumerate(encoding.sequence_ids) if source is not None]
    begin, end = (own[0], own[-1] + 1) if own else (len(values), len(values))
    return [values[:begin], values[begin:end], values[end:]]


def _cut(own: npt.NDArray[T], room: int, way: str, stride: int) -> list[npt.NDArray[T]]:
    if way == "head":
        return [own[:room]]
    if way == "tail":
        return [own[-room:]]
    if way == "head_tail":
        head = (room + 1) // 2
        return [np.concatenate([own[:head], own[len(own) - (room - head) :]])]
    # The last chunk ends with the text and is as long as the others: a few words alone would say little.
    last = len(own) - room
    starts = [*range(0, last, room - stride), last]
    return [own[start : start + room] for start in starts]
