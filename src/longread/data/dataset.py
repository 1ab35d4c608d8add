"""From a task's rows to tokens, with what is known of each row. Knows numpy, not torch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data import cache
from longread.data import tokenizer as tokenizers_room
from longread.data.batches import Indices
from longread.data.config import Cut, DataConfig
from longread.data.digests import ReadFile
from longread.data.encoding import encode, encode_to, encoded_in
from longread.data.examples import PART, Examples, carve, stratified_sample
from longread.data.load import load_task, wide
from longread.data.rows import Files
from longread.data.stored import StoredTexts
from longread.data.tasks import find_task
from longread.data.tokenizer import Encoded, Tokenizer
from longread.errors import UserError
from longread.problems import SINGLE_LABEL, ProblemType
from longread.records import fingerprint

log = logging.getLogger("longread")

# A tokenizer is trained on so many rows and characters at most, where the rows are not in memory.
TOKENIZER_ROWS, TOKENIZER_CHARACTERS = 100_000, 1 << 26


@dataclass(frozen=True)
class Split:
    """The rows of one split as tokens, with what is known of each row."""

    encoded: Encoded
    labels: npt.NDArray[Any]  # [R], or [R, C] of several labels
    rows: npt.NDArray[Any]  # [R], index in the source split
    name: str
    task: str
    label_names: tuple[str, ...]
    fingerprint: str
    marks: tuple[int, ...] = ()  # ids of the tokens that the tokenizer puts around texts
    pairs: bool = False  # each sequence is two texts
    problem_type: ProblemType = SINGLE_LABEL
    files: Files | None = None  # that the rows were read from, where they are not in memory
    text_columns: tuple[str, ...] = ()  # of a table, where the texts stand
    sources: tuple[ReadFile, ...] = ()  # of a user's own table: its files, one after the other

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> Indices:
        return self.encoded.lengths

    def first_texts(self, indices: Indices) -> Indices:
        """For each of these rows the tokens of a pair's first text, or 0 for a text without a partner."""
        known = self.encoded.first_texts
        return np.zeros(len(indices), dtype=np.int64) if known is None else known[indices]

    @property
    def tokens_read(self) -> Indices:
        """Tokens of each text that are read, [R]: those that chunks have in common are counted once."""
        encoded = self.encoded
        return self.lengths if encoded.sequences is None or encoded.whole is None else encoded.whole

    def sequences_of(self, indices: Indices) -> tuple[Indices, Indices]:
        """Of these rows: how many sequences each has, and the tokens of each sequence, one after the other."""
        if self.encoded.sequences is None:
            return np.ones(len(indices), dtype=np.int64), self.lengths[indices]
        first = self.encoded.first_sequences
        counts = first[indices + 1] - first[indices]
        return counts, np.diff(self.encoded.sequences)[_ranges(first[indices], counts)]

    def total_length(self) -> int:
        """Tokens of all rows."""
        total = sum(int(self.lengths[begin : begin + PART].sum()) for begin in range(0, len(self), PART))
        self.release()
        return total

    def release(self) -> None:
        """Rows in files: what was read of them is no longer counted as this process's memory."""
        if self.encoded.maps is not None:
            self.encoded.maps.release()

    def gather(self, indices: Indices) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
        """Tokens [T] and token types [T] (None without pairs) of the rows, one after the other."""
        places = _ranges(self.encoded.offsets[indices], self.lengths[indices])
        types = self.encoded.types
        if self.encoded.maps is not None:
            self.encoded.maps.used(len(indices))
        return self.encoded.tokens[places].astype(np.int64), None if types is None else types[places].astype(np.int64)


def _ranges(starts: Indices, lengths: Indices) -> Indices:
    """The numbers from each start on, so many as its length says, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Prepared:
    """All a run reads: its splits as tokens, its tokenizer, and the fingerprints that are part of the run's name."""

    train: Split
    evaluation: Split
    selection: Split | None
    tokenizer: Tokenizer
    fingerprints: tuple[str, ...]


def prepare(
    config: DataConfig,
    max_length: int,
    checkpoint_tokenizer: Tokenizer | None = None,
    rows: tuple[Examples, Examples] | None = None,
) -> Prepared:
    """Read, hold out, train or load the tokenizer, tokenize; what was tokenized before is taken from the cache.

    rows: what `load_task` gave, where it was asked before.
    """
    train, evaluation = rows or load_task(config)
    selection = None
    if config.selection_fraction is not None:
        train, selection = carve(train, config.selection_fraction, config.sample_seed, config.task)
        selection = wide(selection)
    tokenizer = checkpoint_tokenizer or make_tokenizer(config, train)
    if config.fill_rows and tokenizer.pad_id is None:
        raise UserError("--fill-rows: the tokenizer has no padding token; use another tokenizer")
    if config.fill_rows and isinstance(train.texts, StoredTexts):
        raise UserError("--fill-rows: padding is held in memory, which streamed rows are not; leave one out")
    if config.fill_rows and config.truncation == "chunk":
        raise UserError("--fill-rows: a text in chunks has no one length to fill up to; choose another --truncation")
    cut = Cut(truncation=config.truncation, chunk_stride=config.chunk_stride)
    splits = [
        None if examples is None else tokenize(examples, tokenizer, max_length, config.cache, cut, config.workers)
        for examples in (train, evaluation, selection)
    ]
    if config.fill_rows:
        splits = [None if split is None else filled(split, max_length, tokenizer.pad_id) for split in splits]
    assert splits[0] is not None and splits[1] is not None
    fingerprints = (train.fingerprint, evaluation.fingerprint, tokenizer.fingerprint)
    return Prepared(splits[0], splits[1], splits[2], tokenizer, fingerprints)


def make_tokenizer(config: DataConfig, train: Examples) -> Tokenizer:
    """What `--tokenizer` names, or what suits the task; a trained one is kept in the cache."""
    kind = config.tokenizer or find_task(config.task).tokenizer
    if kind == "symbols":
        return tokenizers_room.symbol_tokenizer(chain(train.texts, train.pairs or ()))
    if kind == "bytes":
        return tokenizers_room.byte_tokenizer()
    if kind != "train":
        return tokenizers_room.load_tokenizer(kind)
    key = fingerprint("tokenizer", train.fingerprint, str(config.vocab_size), str(config.lowercase))
    path = None if config.cache is None else config.cache / f"tokenizer-{key}"
    kept = None if path is None else cache.read(path)
    if kept is None:
        learned = train if not isinstance(train.texts, StoredTexts) else sample_for_tokenizer(train, config.sample_seed)
        texts = chain(learned.texts, learned.pairs or ())
        trained = tokenizers_room.train_tokenizer(texts, config.vocab_size, config.lowercase)
        kept = trained.inner.to_str().encode()
        if path is not None:
            cache.write(path, kept)
    return tokenizers_room.tokenizer_of(kept.decode())


def sample_for_tokenizer(train: Examples, seed: int) -> Examples:
    """What a tokenizer is trained on where the rows are not in memory: all of them, or a sample of a bounded size."""
    texts = [own for own in (train.texts, train.pairs) if isinstance(own, StoredTexts)]
    characters = max(1, sum(own.characters for own in texts))
    most = min(TOKENIZER_ROWS, len(train) * TOKENIZER_CHARACTERS // characters)
    if most >= len(train):
        return train
    chosen = np.sort(stratified_sample(np.zeros(len(train), dtype=np.uint8), most, seed, "tokenizer"))
    log.info("the tokenizer is trained on %s of the %s training rows, drawn at random", f"{most:,}", f"{len(train):,}")
    return train.take(chosen)


def tokenize(
    examples: Examples,
    tokenizer: Tokenizer,
    max_length: int,
    folder: Path | None,
    cut: Cut | None = None,
    workers: int | None = None,
) -> Split:
    """Texts as tokens, at most `max_length` of a sequence; taken from the cache in `folder` if they are there.

    cut: what is read of longer texts, and whether it is counted how long they are; None: as the tokenizer cuts them.
    folder: None to keep the tokens in memory, also those of rows that are not.
    workers: processes that tokenize rows that are not in memory; None: as many as there are cores.
    """
    asked = "" if cut is None or cut.truncation is None else repr(cut)
    own = ("tokens, first texts", examples.fingerprint, tokenizer.fingerprint, str(max_length))
    key = fingerprint(*own, *([asked] if asked else []))
    path = None if folder is None else folder / f"tokens-{key}"
    if isinstance(examples.texts, StoredTexts) and path is not None:
        return _stored_split(examples, tokenizer, max_length, path.with_name(f"{path.name}-maps"), cut, workers)
    encoded = None if path is None else cache.read_tokens(path)
    if encoded is None:
        encoded = encode(tokenizer, examples.texts, examples.pairs, max_length, cut)
        if path is not None:
            cache.write_tokens(path, encoded)
    return split_of(examples, tokenizer, encoded)


def _stored_split(
    examples: Examples, tokenizer: Tokenizer, max_length: int, path: Path, cut: Cut | None, workers: int | None
) -> Split:
    """Labels and rows are kept beside the tokens: none of them is in memory."""
    encoded = encoded_in(path)
    if encoded is None:
        assert isinstance(examples.texts, StoredTexts)
        assert examples.pairs is None or isinstance(examples.pairs, StoredTexts)
        also = {"labels": examples.labels, "rows": examples.rows}
        encoded = encode_to(path, tokenizer, examples.texts, examples.pairs, max_length, cut, workers, also)
    assert encoded.maps is not None
    return replace(
        split_of(examples, tokenizer, encoded), labels=encoded.maps.arrays["labels"], rows=encoded.maps.arrays["rows"]
    )


def split_of(examples: Examples, tokenizer: Tokenizer, encoded: Encoded) -> Split:
    """`encoded` [R] with what `examples` say of each row."""
    return Split(
        encoded,
        examples.labels,
        examples.rows,
        examples.split,
        examples.task,
        examples.label_names,
        examples.fingerprint,
        tokenizer.marks,
        examples.pairs is not None,
        examples.problem_type,
        examples.files,
        examples.text_columns,
        examples.sources,
    )


def filled(split: Split, length: int, pad_id: int | None) -> Split:
    """Every row with `length` tokens, the rest of it padding."""
    assert pad_id is not None
    encoded, rows = split.encoded, len(split)
    tokens = np.full((rows, length), pad_id, dtype=np.int32)
    types = None if encoded.types is None else np.zeros((rows, length), dtype=np.uint8)
    there = np.arange(length) < encoded.lengths[:, None]
    tokens[there] = encoded.tokens
    if types is not None and encoded.types is not None:
        types[there] = encoded.types
    offsets = np.arange(rows + 1, dtype=np.int64) * length
    flat = None if types is None else types.ravel()
    return replace(split, encoded=Encoded(tokens.ravel(), offsets, flat, encoded.truncated, encoded.first_texts))
