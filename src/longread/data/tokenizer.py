"""Tokenizers: trained on a run's own rows, bytes, symbols between spaces, or a given one. One `tokenizer.json` each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from longread.data.mapped import Maps
from longread.data.tokenizer_config import TokenizerConfig, check_ids, files_of, read_tokenizer_config, set_flags
from longread.data.tokenizer_files import tokenizer_file
from longread.errors import UserError
from longread.records import fingerprint, write_atomically

if TYPE_CHECKING:
    import tokenizers

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, START, END, UNKNOWN = range(4)
LONGEST_RUN = 1000  # characters
LONG_WORD = re.compile(
    rf"(?<!\S)\S{{{LONGEST_RUN + 1}}}|(?<!\s)\s{{{LONGEST_RUN + 1}}}"
)  # is quick, and finds a few too many
KINDS = (r"[^\W\d_]", r"\d", r"\s", r"(?:[^\w\s]|_)")
LONG_RUN = re.compile("|".join(rf"(?<!{kind}){kind}{{{LONGEST_RUN + 1},}}" for kind in KINDS))
LARGEST_FILE = 2**28  # bytes of a tokenizer.json; the largest vocabularies in use take a tenth


@dataclass(frozen=True)
class Encoded:
    """Token ids of R texts, one after the other: tokens int32 [T], offsets int64 [R + 1], types uint8 [T] or None.

    Where texts are read in chunks, the T tokens are S sequences and a text has several, neighbours.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    types: npt.NDArray[np.uint8] | None
    truncated: npt.NDArray[np.bool_]  # [R]: the text was longer than allowed
    first_texts: npt.NDArray[np.int64] | None = None  # [R]: tokens of each pair's first text; None: no pairs
    sequences: npt.NDArray[np.int64] | None = None  # [S + 1], offsets; None: each text is one sequence
    whole: npt.NDArray[np.int64] | None = None  # [R]: tokens of each text, with those that were cut; None: not counted
    maps: Maps | None = None  # the files that all of these are, where they are not in memory

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets) if self.maps is None else self.maps.arrays["lengths"]

    @cached_property
    def first_sequences(self) -> npt.NDArray[np.int64]:
        """[R + 1], of each text its first sequence's number: those of text r are from first[r] up to first[r + 1]."""
        if self.sequences is None:
            return np.arange(len(self.offsets))
        if self.maps is not None:
            return self.maps.arrays["first_sequences"]
        return np.searchsorted(self.sequences, self.offsets)  # no sequence is empty


@dataclass(frozen=True)
class Tokenizer:
    """A `tokenizers` tokenizer without truncation or padding of its own."""

    inner: tokenizers.Tokenizer
    config: TokenizerConfig = field(default_factory=TokenizerConfig)
    # A copy that cuts, by the length it cuts at: to copy a large vocabulary takes longer than to read a short text.
    _cutting: dict[int, tokenizers.Tokenizer] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def vocab_size(self) -> int:
        """Ids are below this number, which may be above the number of entries where ids have gaps."""
        return max(self.inner.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def pad_id(self) -> int | None:
        return self.id_of("pad_token")

    def id_of(self, role: str) -> int | None:
        """Of a special token, by what the configuration calls it or one of its usual names."""
        found = (self.inner.token_to_id(name) for name in self.config.names(role))
        return next((i for i in found if i is not None), None)

    @cached_property
    def marks(self) -> tuple[int, ...]:
        """Ids of the tokens that are put around every text and between a pair's."""
        return tuple(sorted({*self.inner.encode("").ids, *self.inner.encode("", "").ids}))

    @cached_property
    def fingerprint(self) -> str:
        told = ("" if self.config.token_types else "no token types", self.config.truncation_side.removeprefix("right"))
        return fingerprint(self.inner.to_str(), *(text for text in told if text))

    def save(self, path: Path) -> None:
        write_atomically(path, self.inner.to_str(pretty=True))

    def limit(self, positions: int) -> int:
        """Tokens of the longest input to a model with so many positions, where nothing else is asked for."""
        return min(positions, self.config.max_length or positions)

    def reading(self, tokens: int) -> Tokenizer:
        """The same, its longest input no shorter than so many tokens."""
        if self.config.max_length is None or self.config.max_length >= tokens:
            return self
        return replace(self, config=replace(self.config, max_length=tokens))

    def cutting(self, tokens: int) -> Tokenizer:
        """The same, its longest input of so many tokens: what a model was trained to read."""
        return replace(self, config=replace(self.config, max_length=tokens))

    def files(self, max_length: int, token_types: bool = True) -> dict[str, str]:
        """Name -> text of all its files in a checkpoint. token_types: False if the model cannot take them."""
        config = replace(self.config, max_length=max_length, token_types=token_types and self.config.token_types)
        return files_of(self.inner, config)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> Encoded:
        """Texts (and their partners) to ids with the model's marks; what exceeds max_length is cut and counted.

        Of a pair, the longer text is cut first. No sequence is empty: a text of no tokens is one of padding.
        """
        marks = self.inner.num_special_tokens_to_add(pairs is not None)
        if max_length <= marks:
            raise UserError(f"--max-length {max_length}: the tokenizer's {marks} marks leave no room for text")
        inner = self._cut_at(max_length)
        nothing = next((i for i in (self.pad_id, inner.token_to_id("<unk>")) if i is not None), 0)
        tokens: list[npt.NDArray[np.int32]] = []
        types: list[npt.NDArray[np.uint8]] = []
        first_texts = np.zeros(len(texts), dtype=np.int64)
        truncated = np.zeros(len(texts), dtype=bool)
        for begin in range(0, len(texts), 1024):  # bounds the memory of the library's own objects
            end = min(len(texts), begin + 1024)
            part = list(texts[begin:end])
            encodings = inner.encode_batch_fast(
                part if pairs is None else list(zip(part, pairs[begin:end], strict=True))
            )
            for row, encoding in enumerate(encodings, begin):
                tokens.append(np.array(encoding.ids or [nothing], dtype=np.int32))
                truncated[row] = bool(encoding.overflowing)
                if pairs is not None:
                    given = encoding.type_ids if self.config.token_types else [0] * len(encoding.ids)
                    types.append(np.array(given or [0], dtype=np.uint8))
                    first_texts[row] = first_text(encoding)
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids in tokens], out=offsets[1:])
        flat = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int32)
        if pairs is None:
            return Encoded(flat, offsets, None, truncated)
        return Encoded(flat, offsets, np.concatenate(types) if types else None, truncated, first_texts)

    def _cut_at(self, max_length: int) -> tokenizers.Tokenizer:
        import tokenizers

        found = self._cutting.get(max_length)
        if found is None:
            found = tokenizers.Tokenizer.from_str(self.inner.to_str())
            found.enable_truncation(max_length, strategy="longest_first", direction=self.config.truncation_side)
            self._cutting.clear()  # one copy is enough: a model has one length
            self._cutting[max_length] = found
        return found

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """How a person would read each token."""
        return [self.inner.decode([i], skip_special_tokens=False) or str(self.inner.id_to_token(i)) for i in ids]


def first_text(encoding: tokenizers.Encoding) -> int:
    """Tokens of a pair's first text and its marks.

    Token types tell it; where all are 0, as RoBERTa's, the text that a token comes from: marks come from none.
    """
    types = encoding.type_ids
    if 1 in types:
        return types.index(1)
    sources = encoding.sequence_ids
    end = max((place for place, source in enumerate(sources) if source == 0), default=-1) + 1
    return end + (end < len(sources) and sources[end] is None)


def train_tokenizer(texts: Iterable[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    """A byte-level BPE made from `texts`: every text can be encoded, nothing is unknown."""
    from tokenizers import models, normalizers, trainers

    inner = _byte_level(models.BPE())
    if lowercase:
        inner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=_byte_alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(in_short_runs(texts), trainer)
    return Tokenizer(_with_marks(inner))


def in_short_runs(texts: Iterable[str]) -> Iterator[str]:
    """The texts, but a run of more than LONGEST_RUN letters, digits, spaces or other marks in pieces of that length.

    Such a run is one word to a byte-level BPE, and the time to learn from a word grows with the square of its length.
    """
    for text in texts:
        if not LONG_WORD.search(text):
            yield text
            continue
        begin = 0
        for run in LONG_RUN.finditer(text):
            for end in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN):
                yield text[begin:end]
                begin = end
        yield text[begin:]


def byte_tokenizer() -> Tokenizer:
    """Each byte of the UTF-8 text is one token."""
    from tokenizers import models

    vocabulary = {piece: index for index, piece in enumerate((*SPECIAL, *_byte_alphabet()))}
    inner = _byte_level(models.BPE(vocab=vocabulary, merges=[]))
    inner.add_special_tokens(list(SPECIAL))
    return Tokenizer(_with_marks(inner))


def symbol_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Each symbol between spaces is one token; symbols that no text of `texts` has are unknown."""
    import tokenizers
    from tokenizers import models, pre_tokenizers

    symbols = sorted({symbol for text in texts for symbol in text.split()} - set(SPECIAL))
    vocabulary = {piece: index for index, piece in enumerate((*SPECIAL, *symbols))}
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[UNKNOWN]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(list(SPECIAL))
    return Tokenizer(_with_marks(inner))


def tokenizer_of(text: str) -> Tokenizer:
    """From what a tokenizer.json of this package's own holds."""
    import tokenizers

    return Tokenizer(tokenizers.Tokenizer.from_str(text))


def load_tokenizer(place: str | Path) -> Tokenizer:
    """From a directory, or a tokenizer.json with what stands beside it.

    What tokenizer.json itself says of truncation and padding is switched off.
    """
    import tokenizers

    path = Path(place)
    file = tokenizer_file(path) if path.is_dir() else path
    if file is None:
        raise UserError(f"{path}: holds no tokenizer.json, nor the vocabulary files to make one; add it")
    if not file.is_file():
        raise UserError(f"tokenizer {str(place)!r}: no such directory; give one, or 'train' or 'bytes'")
    if file.stat().st_size > LARGEST_FILE:
        raise UserError(f"{file}: is larger than {LARGEST_FILE >> 20} MiB; it is no tokenizer")
    try:
        inner = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise UserError(f"{file}: not a tokenizer.json that the tokenizers library reads ({error})") from None
    check_ids(inner, file)
    inner.no_truncation()
    inner.no_padding()
    config = read_tokenizer_config(file.parent)
    set_flags(inner, config)
    return Tokenizer(inner, config)


def _byte_level(model: Any) -> Any:
    import tokenizers
    from tokenizers import decoders, pre_tokenizers

    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    return inner


def _byte_alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _with_marks(inner: Any) -> Any:
    """<s> text </s>, and <s> text </s> partner </s> with token type 1 for the partner."""
    from tokenizers import processors

    start, end = SPECIAL[START], SPECIAL[END]
    inner.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(start, START), (end, END)],
    )
    return inner
