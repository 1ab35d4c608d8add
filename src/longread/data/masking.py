"""Masked-language modelling: which tokens of a text are to be guessed, and what stands in their places.

BERT's rule (Devlin et al. 2019, section 3.1): a fraction of a text's tokens is chosen, and of these 80 % become the
mask token, 10 % another token at random, and 10 % stay. Knows numpy, not torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data.batches import Indices
from longread.data.dataset import Split
from longread.data.tokenizer import Tokenizer, tokenizer_of
from longread.data.tokenizer_config import SPECIAL_TOKENS
from longread.errors import UserError

MASK = "<mask>"
MASKED, AT_RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stays
TRAINING, HELD_OUT = 0x4D4C4D00, 0x4D4C4D01  # tell these draws from all others of the same seed


def with_mask_token(tokenizer: Tokenizer) -> Tokenizer:
    """The same with a mask token behind all others, for a model whose embedding is still to be made."""
    if tokenizer.id_of("mask_token") is not None:
        return tokenizer
    copy = tokenizer_of(tokenizer.inner.to_str())
    copy.inner.add_special_tokens([MASK])
    return Tokenizer(copy.inner, tokenizer.config)


def special_ids(tokenizer: Tokenizer) -> set[int]:
    """Ids of the tokens that stand for no text: marks, padding, the mask, and all that the tokenizer calls special."""
    added = tokenizer.inner.get_added_tokens_decoder().items()
    roles = (tokenizer.id_of(role) for role in SPECIAL_TOKENS)
    return (
        {number for number, token in added if token.special} | {i for i in roles if i is not None} | {*tokenizer.marks}
    )


@dataclass(frozen=True)
class Masking:
    """Masks that seed, step and row decide, however the rows are put together. Special tokens are never chosen."""

    fraction: float
    seed: int
    mask_id: int
    special: npt.NDArray[np.bool_]  # [vocabulary]
    ordinary: npt.NDArray[np.int64]  # ids of all other entries: what is drawn at random

    @classmethod
    def of(cls, tokenizer: Tokenizer, fraction: float, seed: int) -> Masking:
        """UserError for a tokenizer that has no mask token, or no other."""
        mask_id, not_text = tokenizer.id_of("mask_token"), special_ids(tokenizer)
        if mask_id is None:
            raise UserError(
                "the tokenizer has no mask token (<mask> or [MASK]), which masked-language modelling puts in the place "
                "of words; begin from a checkpoint that has one, or from scratch"
            )
        known = tokenizer.inner.get_vocab(with_added_tokens=True).values()
        special = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
        special[list(not_text)] = True
        ordinary = np.array(sorted(set(known) - not_text), dtype=np.int64)
        if not len(ordinary):
            raise UserError("the tokenizer has special tokens alone; there is nothing to guess")
        return cls(fraction, seed, mask_id, special, ordinary)

    def counts(self, split: Split, rows: Indices) -> Indices:
        """Of each of these rows, how many tokens are chosen, at any step: one at least where there is any to choose."""
        tokens, _ = split.gather(rows)
        free = np.concatenate([[0], np.cumsum(~self.special[tokens])])
        ends = np.cumsum(split.lengths[rows])
        return self._counts(free[ends] - free[ends - split.lengths[rows]])

    def _counts(self, free: Any) -> Any:
        return np.minimum(free, np.maximum(1, np.rint(free * self.fraction))).astype(np.int64)

    def draw(
        self, tokens: Indices, lengths: Indices, rows: Indices, step: int | None
    ) -> tuple[Indices, Indices, Indices]:
        """tokens [T] of `rows`, one after the other: what is seen in their place [T], the places [M] of those chosen,

        and what these were [M]. step: of the training; None for the masks under which held-out rows are measured.
        """
        seen, places = tokens.copy(), []
        begin = 0
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            free = begin + np.flatnonzero(~self.special[tokens[begin : begin + length]])
            begin += length
            which = [HELD_OUT, row] if step is None else [TRAINING, row, step]
            generator = np.random.default_rng([self.seed, *which])
            own = np.sort(free[np.argsort(generator.random(len(free)))[: self._counts(len(free))]])
            kind = generator.random(len(own))
            seen[own[kind < MASKED]] = self.mask_id
            other = (kind >= MASKED) & (kind < MASKED + AT_RANDOM)
            seen[own[other]] = self.ordinary[generator.integers(len(self.ordinary), size=int(other.sum()))]
            places.append(own)
        chosen = np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
        return seen, chosen, tokens[chosen]
