"""Texts to tokens: what is cut, what is kept, and what is not done twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from longread.data.tokenizer import Tokenizer, byte_tokenizer, load_tokenizer, symbol_tokenizer
from longread.errors import UserError


@pytest.mark.parametrize("pairs", [None, ["other words", ""]])
def test_one_tokenizer_encodes_at_any_length(pairs: list[str] | None) -> None:
    tokenizer = byte_tokenizer()
    name = tokenizer.fingerprint
    texts = ["some words", "a"]
    whole = tokenizer.encode(texts, pairs, 64)
    cut = tokenizer.encode(texts, pairs, 6)
    assert whole.truncated.tolist() == [False, False]
    assert cut.truncated.tolist() == [True, False]
    assert cut.lengths.max() == 6
    again = tokenizer.encode(texts, pairs, 64)
    assert again.tokens.tolist() == whole.tokens.tolist()
    assert tokenizer.inner.truncation is None
    assert tokenizer.fingerprint == name == Tokenizer(tokenizer.inner).fingerprint


def test_a_text_is_not_paid_for_with_the_whole_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = symbol_tokenizer(["a b c"])
    tokenizer.encode(["a"], None, 8)

    class Frozen:
        from_str = None  # what is called to copy a tokenizer

    monkeypatch.setattr(tokenizers, "Tokenizer", Frozen)
    assert tokenizer.encode(["a b c"], None, 8).lengths.tolist() == [5]


@pytest.mark.parametrize(("change", "told"), [
    (lambda text: text.replace('"<unk>": 3', '"<unk>": 1000000000'), "has a token with the id 1000000000"),
    (lambda text: text + " " * 2**20, "is larger than 1 MiB"),
])  # fmt: skip
def test_a_tokenizer_of_absurd_size_is_refused(
    change: Callable[[str], str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longread.data.tokenizer.LARGEST_FILE", 2**20)
    text = symbol_tokenizer(["a b c"]).inner.to_str(pretty=True)
    (tmp_path / "tokenizer.json").write_text(change(text))
    with pytest.raises(UserError, match=told):
        load_tokenizer(tmp_path)


def test_no_sequence_is_empty() -> None:
    """A tokenizer without special tokens makes nothing of a blank; the model needs one token at least."""
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<pad>": 1}, unk_token="<pad>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    encoded = Tokenizer(inner).encode([" ", "a a", ""], None, 8)
    assert encoded.tokens.tolist() == [1, 0, 0, 1]
    assert encoded.lengths.tolist() == [1, 2, 1]
    pair = Tokenizer(inner).encode([" ", "a"], ["", "a"], 8)
    assert pair.types is not None
    assert (pair.tokens.tolist(), pair.types.tolist()) == ([1, 0, 0], [0, 0, 0])
