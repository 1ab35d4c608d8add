"""What is read of a text that is longer than the model takes, and how its parts become one answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from longread.data.config import Cut
from longread.data.cut import read
from longread.data.tokenizer import symbol_tokenizer
from longread.errors import UserError

LETTERS = "a b c d e f g h i j"
TOKENIZER = symbol_tokenizer([LETTERS])


def sequences(text: str, limit: int, cut: Cut | None = None, tokenizer=TOKENIZER) -> tuple[list[str], int, int]:
    """The letters of each sequence, tokens read, tokens in the text."""
    reading = read(tokenizer, ["a", text], None, limit, cut)
    assert reading.text_of.tolist() == [0] + [1] * (len(reading.text_of) - 1)
    bounds = reading.encoded.offsets[1:]
    parts = [reading.encoded.tokens[b:e] for b, e in pairwise(bounds)]
    assert all((part[0], part[-1]) == TOKENIZER.marks for part in parts)
    assert max(map(len, parts)) <= limit
    return (
        ["".join(TOKENIZER.inner.id_to_token(int(i)) for i in part[1:-1]) for part in parts],
        int(reading.tokens[1]),
        int(reading.tokens_in_text[1]),
    )


@pytest.mark.parametrize(
    ("cut", "parts", "tokens"),
    [
        (Cut(), ["abcd"], 6),
        (Cut(truncation="head"), ["abcd"], 6),
        (Cut(truncation="tail"), ["ghij"], 6),
        (Cut(truncation="head_tail"), ["abij"], 6),
        (Cut(truncation="chunk"), ["abcd", "efgh", "ghij"], 12),
        (Cut(truncation="chunk", chunk_stride=1), ["abcd", "defg", "ghij"], 12),
    ],
    ids=lambda value: str(getattr(value, "truncation", "")),
)
def test_what_is_read_of_a_long_text(cut: Cut, parts: list[str], tokens: int) -> None:
    assert sequences(LETTERS, 6, cut) == (parts, tokens, 12)
    assert sequences(LETTERS, 12, cut) == (["abcdefghij"], 12, 12)


def test_the_default_is_what_the_tokenizer_says() -> None:
    left = replace(TOKENIZER, config=replace(TOKENIZER.config, truncation_side="left"))
    assert sequences(LETTERS, 6, tokenizer=left)[0] == ["ghij"]
    assert sequences(LETTERS, 6, Cut(truncation="head"), left)[0] == ["abcd"]
    for tokenizer in (TOKENIZER, left):
        own = tokenizer.encode([LETTERS, "b", "z"], None, 6)
        found = read(tokenizer, [LETTERS, "b", "z"], None, 6).encoded
        assert found.tokens.tolist() == own.tokens.tolist()
        assert (found.offsets.tolist(), found.truncated.tolist()) == (own.offsets.tolist(), own.truncated.tolist())


def test_chunks_are_pooled_by_the_mean_of_their_logits() -> None:
    reading = read(TOKENIZER, [LETTERS, "a"], None, 8, Cut(truncation="chunk"))
    pooled = reading.pooled(np.array([[1, 2], [3, 6], [7, 8]], dtype=np.float32))
    assert pooled.tolist() == [[2, 4], [7, 8]]


def test_pairs_are_cut_at_the_longer_text_and_counted() -> None:
    reading = read(TOKENIZER, [LETTERS, "a"], ["a b", "c"], 8)
    assert (reading.tokens.tolist(), reading.tokens_in_text.tolist()) == ([8, 5], [15, 5])
    with pytest.raises(UserError, match="only for single texts"):
        read(TOKENIZER, ["a"], ["b"], 8, Cut(truncation="tail"))


def test_what_leaves_no_room_is_refused() -> None:
    with pytest.raises(
        UserError, match="--chunk-stride 4: of 6 tokens the tokenizer's 2 marks leave room for 4; give less than 4"
    ):
        read(TOKENIZER, ["a"], None, 6, Cut(truncation="chunk", chunk_stride=4))
    with pytest.raises(UserError, match="only with --truncation chunk"):
        Cut(truncation="tail", chunk_stride=4)
